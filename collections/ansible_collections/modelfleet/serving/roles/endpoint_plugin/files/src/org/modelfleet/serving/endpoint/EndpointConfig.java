package org.modelfleet.serving.endpoint;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** config.json. It is read at every call: a rotated key needs no restart, and a broken file breaks one call, not a class. */
final class EndpointConfig {
    private static final int DFDAEMON_PROXY_PORT = 4001;

    final Proxy proxy;
    final String proxyName;
    final Map<String, String> headers;
    final ObjectStorage storage;
    final boolean requireSha256;
    /** Where dfdaemon links finished files; null means that this plugin writes the bytes itself. */
    final Path incoming;
    final String pieceLength;
    final int retrySeconds;
    final int readTimeoutSeconds;

    private EndpointConfig(Settings settings) throws EndpointException {
        String address = settings.required("addr");
        URI uri = settings.url("addr", address.contains("://") ? address : "http://" + address);
        if (!"http".equals(uri.getScheme())) {
            throw settings.error("addr", "must begin with http://, dfdaemon's proxy speaks no TLS");
        }
        int port = uri.getPort() == -1 ? DFDAEMON_PROXY_PORT : uri.getPort();
        // Resolved at every call: an address that was not there once must not stay unresolved.
        proxy = new Proxy(Proxy.Type.HTTP, new InetSocketAddress(uri.getHost(), port));
        proxyName = uri.getHost() + ":" + port;
        headers = new LinkedHashMap<>(settings.texts("header"));
        List<String> filter = settings.list("filter");
        if (!filter.isEmpty()) {
            headers.put("X-Dragonfly-Filtered-Query-Params", String.join(",", filter));
        }
        storage = storage(settings.section("object_storage"));
        requireSha256 = settings.flag("require_sha256");
        String directory = settings.optional("incoming_dir", "");
        incoming = directory.isEmpty() ? null : Paths.get(directory);
        if (incoming != null && !incoming.isAbsolute()) {
            throw settings.error("incoming_dir", "must be an absolute path");
        }
        pieceLength = settings.optional("piece_length", "auto");
        retrySeconds = settings.seconds("retry_seconds", 120);
        readTimeoutSeconds = settings.seconds("read_timeout", 300);
    }

    private static ObjectStorage storage(Settings settings) throws EndpointException {
        String type = settings.required("type");
        switch (type) {
            case "s3":
                return new S3ObjectStorage(settings);
            default:
                throw settings.error("type", "names the store " + type + ", which this plugin does not know; it knows s3");
        }
    }

    static Path path() {
        String path = System.getenv("DRAGONFLY_ENDPOINT_CONFIG");
        return Paths.get(path == null || path.isEmpty() ? "/etc/dragonfly-endpoint/config.json" : path);
    }

    static EndpointConfig load(Path path) throws EndpointException {
        String problem;
        try {
            String text = new String(Files.readAllBytes(path), StandardCharsets.UTF_8);
            return new EndpointConfig(new Settings(path, "", Json.readObject(text)));
        } catch (NoSuchFileException e) {
            problem = "there is no such file";
        } catch (IOException e) {
            // The parser's own message may quote the text, secrets included.
            problem = e instanceof java.nio.file.FileSystemException ? e.getClass().getSimpleName() : "it is not a valid JSON object";
        }
        throw EndpointException.internal(
                "Failed to read the endpoint configuration " + path + ": " + problem + ". Run the play that writes it, or correct the file.");
    }
}
