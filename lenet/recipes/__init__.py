"""Recipes: settings that ship with the package, taken by name."""
