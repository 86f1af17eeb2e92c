"""Who answers a request: each endpoint is one class with one method (`records.Endpoint`)."""
