"""What all pages have in common: their look, their templates and their figures, drawn by plotly."""
