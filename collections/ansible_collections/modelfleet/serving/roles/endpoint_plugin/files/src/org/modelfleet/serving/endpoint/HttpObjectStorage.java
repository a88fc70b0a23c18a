package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/** A plain web server. It signs nothing: who may read is decided by headers, or not at all. */
final class HttpObjectStorage implements ObjectStorage {
    /** What belongs to the connection, the transfer or Dragonfly; the JDK drops some of them without a word. */
    private static final Pattern NOT_OURS = Pattern.compile(
            "(?i)accept-encoding|access-control-request-.*|connection|content-length|content-transfer-encoding|expect|host|keep-alive"
                    + "|origin|proxy-.*|range|te|trailer|transfer-encoding|upgrade|via|x-dragonfly-.*");

    private final Location location;
    private final Map<String, String> headers;

    HttpObjectStorage(Settings settings) throws EndpointException {
        location = settings.url("url");
        headers = settings.headers("headers");
        for (String name : headers.keySet()) {
            if (NOT_OURS.matcher(name).matches()) {
                throw settings.error("headers", "must not have " + name + ", which is set by those who carry the request");
            }
        }
        if (!headers.isEmpty() && !settings.flag("headers_reach_daemon_logs")) {
            throw settings.error(
                    "headers",
                    "need headers_reach_daemon_logs: true, because Dragonfly's daemons forward these headers and write them to their logs");
        }
    }

    @Override
    public URI presignGet(String key, Instant now, long expirySeconds) {
        return location.url(key, "");
    }

    @Override
    public List<String> signatureParameters() {
        return List.of();
    }

    @Override
    public Map<String, String> headers() {
        return headers;
    }

    @Override
    public String describe(String key) {
        return location.describe(key);
    }

    @Override
    public String adviceWhenRefused() {
        return headers.isEmpty()
                ? "It may want a header, which object_storage.headers can name."
                : "Check object_storage.headers in config.json.";
    }
}
