package org.modelfleet.serving.endpoint;

/** What a caller must be told: an HTTP status and one sentence that names object and place and says what to do. */
final class EndpointException extends Exception {
    private static final long serialVersionUID = 1L;

    private final int code;
    private final String type;
    private final boolean worthRetrying;

    private EndpointException(int code, String type, boolean worthRetrying, String message) {
        super(message);
        this.code = code;
        this.type = type;
        this.worthRetrying = worthRetrying;
    }

    /** An answer in the name of TorchServe itself, with the class name that TorchServe would give. */
    static EndpointException of(int code, Throwable cause) {
        String message = cause.getMessage() == null ? cause.getClass().getSimpleName() : cause.getMessage();
        return new EndpointException(code, cause.getClass().getSimpleName(), false, message);
    }

    static EndpointException badRequest(String message) {
        return new EndpointException(400, "BadRequestException", false, message);
    }

    static EndpointException notFound(String message) {
        return new EndpointException(404, "ObjectNotFoundException", false, message);
    }

    static EndpointException conflict(String message) {
        return new EndpointException(409, "ConflictStatusException", false, message);
    }

    static EndpointException internal(String message) {
        return new EndpointException(500, "InternalServerException", false, message);
    }

    static EndpointException badGateway(String message) {
        return new EndpointException(502, "BadGatewayException", false, message);
    }

    /** The same failure may be gone in a moment: a seed that restarts, a scheduler that does not know the seed yet. */
    static EndpointException passingBadGateway(String message) {
        return new EndpointException(502, "BadGatewayException", true, message);
    }

    static EndpointException gatewayTimeout(String message) {
        return new EndpointException(504, "GatewayTimeoutException", true, message);
    }

    int code() {
        return code;
    }

    String type() {
        return type;
    }

    boolean worthRetrying() {
        return worthRetrying;
    }
}
