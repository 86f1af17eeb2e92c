"""Endpoints answer requests. Each is a class with one method, `session` (`records.Endpoint`)."""
