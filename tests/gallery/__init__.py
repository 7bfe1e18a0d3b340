"""The gallery page: docs/gallery.md and its pictures, written from the scenarios and their results."""
