"""HTTP, as plain ASGI: routes, bodies with limits, the stream writer, and errors in the API's envelope.

What a request *means* is decided behind `turn`; here it is only received, answered and logged.
"""
