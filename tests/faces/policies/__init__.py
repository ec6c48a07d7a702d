"""Policies as a user would write them, each in one file: good ones and broken ones."""
