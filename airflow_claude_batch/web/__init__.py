"""The report over a results folder: gathering, HTML and plots."""
