package org.modelfleet.serving.endpoint;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** config.json. It is read at every call: a rotated key needs no restart, and a broken file breaks one call, not a class. */
final class EndpointConfig {
    private static final int DFDAEMON_PROXY_PORT = 4001;
    /** Before dfdaemon was rewritten, the header had another name. */
    private static final String OLD_FILTER_HEADER = "X-Dragonfly-Filter";

    final Proxy proxy;
    final String proxyName;
    final Map<String, String> headers = new LinkedHashMap<>();
    /** Query parameters that do not tell two objects apart, says the user. */
    final Set<String> filter = new LinkedHashSet<>();
    final ObjectStorage storage;
    final boolean requireSha256;
    /** Where dfdaemon links finished files; null means that this plugin writes the bytes itself. */
    final Path incoming;
    final String pieceLength;
    final int retrySeconds;
    final int readTimeoutSeconds;
    /** A signed URL must outlive the queue at the seed peer and the transfer; every attempt signs anew. */
    final int urlExpirySeconds;

    private EndpointConfig(Settings settings) throws EndpointException {
        String address = settings.required("addr");
        Location server = Location.parse(address.contains("://") ? address : "http://" + address);
        if (server == null || server.hasPath()) {
            throw settings.error("addr", "must be a URL without path and query, for example http://127.0.0.1:4001");
        }
        if (server.tls) {
            throw settings.error("addr", "must begin with http://, dfdaemon's proxy speaks no TLS");
        }
        int port = server.port == -1 ? DFDAEMON_PROXY_PORT : server.port;
        // Resolved at every call: an address that was not there once must not stay unresolved.
        proxy = new Proxy(Proxy.Type.HTTP, new InetSocketAddress(server.host, port));
        proxyName = server.host + ":" + port;
        for (Map.Entry<String, String> header : settings.headers("header").entrySet()) {
            String name = header.getKey();
            if (DragonflyClient.FILTER_HEADER.equalsIgnoreCase(name) || OLD_FILTER_HEADER.equalsIgnoreCase(name)) {
                addNames(header.getValue());
            } else {
                headers.put(name, header.getValue());
            }
        }
        settings.list("filter").forEach(this::addNames);
        storage = storage(settings.section("object_storage"));
        requireSha256 = settings.flag("require_sha256");
        String directory = settings.optional("incoming_dir", "");
        try {
            incoming = directory.isEmpty() ? null : Paths.get(directory);
        } catch (InvalidPathException e) {
            throw settings.error("incoming_dir", "must be a path that this locale can write");
        }
        if (incoming != null && !incoming.isAbsolute()) {
            throw settings.error("incoming_dir", "must be an absolute path");
        }
        pieceLength = settings.optional("piece_length", "auto");
        retrySeconds = settings.seconds("retry_seconds", 120);
        readTimeoutSeconds = settings.seconds("read_timeout", 300, 1, 24 * 3600);
        // No store's signature of version 4 lives longer than a week.
        urlExpirySeconds = settings.seconds("url_expiry", 3600, 60, 7 * 24 * 3600);
    }

    /** Files of the public plugin join names with &, in one text or in an entry of a list. */
    private void addNames(String text) {
        for (String name : text.split("[&,]")) {
            if (!name.isBlank()) {
                filter.add(name.strip());
            }
        }
    }

    static ObjectStorage storage(Settings settings) throws EndpointException {
        String type = settings.required("type");
        switch (type.toLowerCase(Locale.ROOT)) {
            case "s3":
                return new S3ObjectStorage(settings);
            case "oss":
                return new OssObjectStorage(settings);
            case "gcs":
                return new GcsObjectStorage(settings);
            case "abs":
                return new AbsObjectStorage(settings);
            case "obs":
                return new ObsObjectStorage(settings);
            case "http":
                return new HttpObjectStorage(settings);
            default:
                throw settings.error(
                        "type", "names the store " + type + ", which this plugin does not know; it knows s3, oss, gcs, abs, obs and http");
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
