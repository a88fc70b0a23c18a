package org.modelfleet.serving.endpoint;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.SocketTimeoutException;
import java.net.URI;
import java.net.UnknownHostException;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;

/** Takes objects through dfdaemon's HTTP proxy; one call is one attempt. */
final class DragonflyClient {
    static final String FILTER_HEADER = "X-Dragonfly-Filtered-Query-Params";
    private static final int CONNECT_TIMEOUT_MS = 10_000;

    private final EndpointConfig config;
    private boolean refused;

    DragonflyClient(EndpointConfig config) {
        this.config = config;
    }

    /** How many bytes came, and what they were. */
    static final class Received {
        final long bytes;
        final String sha256;

        Received(long bytes, String sha256) {
            this.bytes = bytes;
            this.sha256 = sha256;
        }
    }

    /**
     * Streams an object into {@code sink} and hashes it.
     *
     * @param taskName the task's name in Dragonfly, or null for a task named by its URL
     * @param link where dfdaemon shall hard-link its own file, or null
     */
    Received download(String key, String taskName, Path link, OutputStream sink) throws EndpointException, LocalWriteException {
        Instant now = Instant.now();
        long seconds = config.storage.signedSeconds(config.urlExpirySeconds, now);
        HttpURLConnection connection = open(key, taskName, now, seconds);
        if (link != null) {
            connection.setRequestProperty("X-Dragonfly-Output-Path", link.toString());
            connection.setRequestProperty("X-Dragonfly-Force-Hard-Link", "true");
        }
        try {
            expect(connection, key, List.of(200), now.plusSeconds(seconds));
            MessageDigest digest = Hex.newSha256();
            long bytes = 0;
            byte[] buffer = new byte[1 << 18];
            try (InputStream body = connection.getInputStream()) {
                for (int n = body.read(buffer); n >= 0; n = body.read(buffer)) {
                    digest.update(buffer, 0, n);
                    write(sink, buffer, n);
                    bytes += n;
                }
            }
            // The JDK's client takes a connection that ends early for the end of the body.
            long announced = connection.getContentLengthLong();
            if (announced >= 0 && bytes != announced) {
                throw EndpointException.passingBadGateway(String.format(
                        "Failed to get %s: dfdaemon at %s sent %d of %d bytes. Look at its journal.",
                        config.storage.describe(key), config.proxyName, bytes, announced));
            }
            return new Received(bytes, Hex.encode(digest.digest()));
        } catch (LocalWriteException e) {
            throw e;
        } catch (IOException e) {
            throw failure(key, e);
        } finally {
            connection.disconnect();
        }
    }

    /**
     * What the origin calls the present content of an object: its ETag, else the time of its last change. Every host that asks gets the
     * same answer, so hosts agree on the next task without talking to each other. Empty when the origin tells neither.
     */
    String generation(String key) throws EndpointException {
        // A task of its own, because dfdaemon answers for a task that it knows without asking the origin.
        Instant now = Instant.now();
        long seconds = config.storage.signedSeconds(config.urlExpirySeconds, now);
        HttpURLConnection connection = open(key, "probe:" + UUID.randomUUID(), now, seconds);
        connection.setRequestProperty("Range", "bytes=0-0");
        try {
            // 200 from an origin without ranges: the headers are all that is wanted.
            expect(connection, key, List.of(206, 200), now.plusSeconds(seconds));
            String tag = connection.getHeaderField("ETag");
            String generation = tag == null ? connection.getHeaderField("Last-Modified") : tag;
            return generation == null ? "" : generation.replaceAll("^W/|[^A-Za-z0-9-]", "");
        } catch (IOException e) {
            throw failure(key, e);
        } finally {
            connection.disconnect();
        }
    }

    private HttpURLConnection open(String key, String taskName, Instant now, long seconds) throws EndpointException {
        URI url = config.storage.presignGet(key, now, seconds);
        try {
            HttpURLConnection connection = (HttpURLConnection) url.toURL().openConnection(config.proxy);
            connection.setConnectTimeout(CONNECT_TIMEOUT_MS);
            connection.setReadTimeout(config.readTimeoutSeconds * 1000);
            connection.setInstanceFollowRedirects(false);
            connection.setUseCaches(false);
            connection.setRequestProperty("Accept", "*/*");
            connection.setRequestProperty("User-Agent", "modelfleet-endpoint");
            config.headers.forEach(connection::setRequestProperty);
            config.storage.headers().forEach(connection::setRequestProperty);
            Set<String> filter = new LinkedHashSet<>(config.filter);
            if (taskName == null) {
                // The URL names the task then, and every call has another signature. What is sent replaces dfdaemon's own list.
                filter.addAll(config.storage.signatureParameters());
            }
            if (!filter.isEmpty()) {
                connection.setRequestProperty(FILTER_HEADER, String.join(",", filter));
            }
            connection.setRequestProperty("X-Dragonfly-Use-P2P", "true");
            if (taskName != null) {
                connection.setRequestProperty("X-Dragonfly-Content-For-Calculating-Task-ID", taskName);
            }
            if (!"auto".equals(config.pieceLength)) {
                connection.setRequestProperty("X-Dragonfly-Piece-Length", config.pieceLength);
            }
            return connection;
        } catch (IOException e) {
            throw failure(key, e);
        }
    }

    private void expect(HttpURLConnection connection, String key, List<Integer> expected, Instant signedUntil)
            throws IOException, EndpointException {
        int code = connection.getResponseCode();
        if (expected.contains(code)) {
            return;
        }
        String object = config.storage.describe(key);
        String blame = connection.getHeaderField("X-Dragonfly-Error-Type");
        if (code == 404) {
            throw EndpointException.notFound("Failed to get " + object
                    + ": the origin has no such object. Check file_name and the bucket or container.");
        }
        if (List.of(400, 401, 403).contains(code) && !"proxy".equals(blame)) {
            String message = String.format("Failed to get %s: the origin refused with %d. %s", object, code, config.storage.adviceWhenRefused());
            // The origin is asked with the URL of the host that asked the seed peer first, which may have been signed before this one.
            boolean mayHaveExpired = !Instant.now().isBefore(signedUntil) || (config.storage.renews() && !refused);
            refused = true;
            throw mayHaveExpired ? EndpointException.passingBadGateway(message) : EndpointException.badGateway(message);
        }
        if (code == 429 || (code >= 500 && !"backend".equals(blame))) {
            throw EndpointException.passingBadGateway(String.format(
                    "Failed to get %s: dfdaemon at %s answered %d. Look at its journal: a seed peer, the scheduler, the origin's name,"
                            + " an origin that answers Range requests or the disk may be what is missing.",
                    object, config.proxyName, code));
        }
        if ("proxy".equals(blame)) {
            throw EndpointException.badGateway(String.format(
                    "Failed to get %s: dfdaemon at %s refused with %d. Look at its journal.", object, config.proxyName, code));
        }
        if (code < 500) {
            throw EndpointException.badGateway(String.format(
                    "Failed to get %s: the origin answered %d. Check endpoint, region and the state of the store.", object, code));
        }
        // dfdaemon says 500, too, when there was no answer at all.
        String server = connection.getURL().getHost();
        throw EndpointException.passingBadGateway(String.format(
                isKnown(server)
                        ? "Failed to get %s: the origin %s answered %d or cannot be reached. Check network, firewall and the state of the store."
                        : "Failed to get %s: no address is known on this host for the origin %s (%d). Check region, endpoint and the host's DNS.",
                object, server, code));
    }

    private static boolean isKnown(String server) {
        try {
            InetAddress.getByName(server);
            return true;
        } catch (UnknownHostException e) {
            return false;
        }
    }

    private EndpointException failure(String key, IOException e) {
        String object = config.storage.describe(key);
        if (e instanceof SocketTimeoutException) {
            return EndpointException.gatewayTimeout(String.format(
                    "Failed to get %s: dfdaemon at %s sent nothing for too long. Check dfdaemon, its seed peers and the origin.",
                    object, config.proxyName));
        }
        // Only the class of the exception: its message may quote the signed URL.
        return EndpointException.passingBadGateway(String.format(
                "Failed to get %s through dfdaemon at %s: %s. Check that dfdaemon runs there.",
                object, config.proxyName, e.getClass().getSimpleName()));
    }

    private static void write(OutputStream sink, byte[] buffer, int length) throws LocalWriteException {
        try {
            sink.write(buffer, 0, length);
        } catch (IOException e) {
            throw new LocalWriteException(e);
        }
    }

    /** The bytes came, but this host could not keep them. */
    static final class LocalWriteException extends IOException {
        private static final long serialVersionUID = 1L;

        LocalWriteException(IOException cause) {
            super(cause.getMessage(), cause);
        }
    }
}
