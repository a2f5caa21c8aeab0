"""One study: trials in, the next points out."""
