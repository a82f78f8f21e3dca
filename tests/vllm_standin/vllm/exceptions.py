"""As in vLLM: what is wrong with a request is no ``ValueError``."""


class VLLMClientError(Exception):
    """Caused by the request."""


class VLLMValidationError(VLLMClientError):
    """A request that cannot be taken."""
