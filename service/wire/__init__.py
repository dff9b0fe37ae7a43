"""What travels: the records of requests and answers, as pydantic reads and OpenAPI shows them."""
