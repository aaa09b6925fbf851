"""Build the report over a results folder: gather manifests, sum them up, render HTML from templates."""
