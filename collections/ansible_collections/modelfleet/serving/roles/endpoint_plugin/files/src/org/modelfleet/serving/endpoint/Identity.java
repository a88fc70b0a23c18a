package org.modelfleet.serving.endpoint;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.ConnectException;
import java.net.HttpURLConnection;
import java.net.Proxy;
import java.net.SocketTimeoutException;
import java.net.URI;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Paths;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.format.DateTimeParseException;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.net.ssl.SSLException;

/**
 * Who gives out credentials, so that they are in no file: a cloud gives them to its instances, or for the token of another authority.
 * Nothing of what is given is in a message.
 */
abstract class Identity {
    private static final int TIMEOUT_MS = 5_000;
    private static final int MOST_BYTES = 1 << 20;
    /** A session of a metadata service; each is used once. */
    private static final String SESSION_SECONDS = "60";
    /** 410 is Azure's, while its metadata service is updated. */
    private static final List<Integer> PASSING = List.of(408, 410, 425, 429);
    /** What may be shown of a refusal: a code, and no text, which may quote a token. */
    private static final Pattern CODE = Pattern.compile("[A-Za-z][A-Za-z0-9_.]{1,60}");

    final boolean ofInstance;
    private final Settings settings;
    private final String place;
    private final String advice;
    private final Location endpoint;

    /**
     * @param settings the block identity
     * @param place the bucket as a human names it
     * @param advice what to check where no metadata service answers
     */
    Identity(Settings settings, List<String> sources, String place, String advice, String ofInstances, String ofTokens)
            throws EndpointException {
        this.settings = settings;
        this.place = place;
        this.advice = advice;
        settings.required("source");
        ofInstance = "instance".equals(settings.choice("source", "", sources));
        endpoint = settings.server("endpoint", ofInstance ? ofInstances : ofTokens);
    }

    /** Refuses keys beside an identity: there would be two kinds of credentials. */
    static void refuseKeys(Settings storage, String... keys) throws EndpointException {
        for (String key : keys) {
            if (!storage.optional(key, "").isEmpty()) {
                throw storage.error(key, "must not stand beside identity, which gives other credentials");
            }
        }
    }

    /** An answer of any status. */
    static final class Answer {
        final int status;
        final String text;

        Answer(int status, String text) {
            this.status = status;
            this.text = text;
        }

        boolean good() {
            return status == 200;
        }

        /** Status and code, as they may be shown. */
        String said(Pattern code) {
            Matcher matcher = code.matcher(text);
            return "(" + status + (matcher.find() && CODE.matcher(matcher.group(1)).matches() ? " " + matcher.group(1) : "") + ")";
        }
    }

    String url() {
        return base(endpoint);
    }

    /** The URL of a server, without a slash at its end. */
    static String base(Location server) {
        return server.describe("").replaceAll("/$", "");
    }

    EndpointException error(String reason, String remedy) {
        return error(url(), reason, remedy);
    }

    EndpointException error(String url, String reason, String remedy) {
        return EndpointException.badGateway(message(url, reason, remedy));
    }

    private String message(String url, String reason, String remedy) {
        return String.format("Failed to get credentials for %s from %s: %s. %s.", place, url, reason, remedy);
    }

    /** Asks a metadata service, past all proxies: it knows who asks by the address. */
    Answer askInstance(String method, String path, Map<String, String> headers) throws EndpointException {
        return ask(method, url(), path, headers, null, true);
    }

    Answer post(String server, String path, Map<String, String> headers, String body) throws EndpointException {
        return ask("POST", server, path, headers, body, false);
    }

    private Answer ask(String method, String server, String path, Map<String, String> headers, String body, boolean direct)
            throws EndpointException {
        HttpURLConnection connection = null;
        try {
            URI target = URI.create(server + path);
            connection = (HttpURLConnection) (direct ? target.toURL().openConnection(Proxy.NO_PROXY) : target.toURL().openConnection());
            connection.setRequestMethod(method);
            connection.setConnectTimeout(TIMEOUT_MS);
            connection.setReadTimeout(TIMEOUT_MS);
            connection.setInstanceFollowRedirects(false);
            connection.setUseCaches(false);
            connection.setRequestProperty("User-Agent", "modelfleet-endpoint");
            headers.forEach(connection::setRequestProperty);
            if (!"GET".equals(method)) {
                connection.setDoOutput(true);
                try (OutputStream out = connection.getOutputStream()) {
                    out.write((body == null ? "" : body).getBytes(StandardCharsets.UTF_8));
                }
            }
            int status = connection.getResponseCode();
            if (status >= 500 || PASSING.contains(status)) {
                throw EndpointException.passingBadGateway(message(server, "it answers " + status, "Look at its state"));
            }
            try (InputStream in = status >= 400 ? connection.getErrorStream() : connection.getInputStream()) {
                return new Answer(status, in == null ? "" : new String(in.readNBytes(MOST_BYTES), StandardCharsets.UTF_8));
            }
        } catch (IOException e) {
            // Only the class of the exception: its message may quote what was sent.
            throw EndpointException.passingBadGateway(
                    message(server, reason(e), direct ? advice : "Check endpoint, network, firewall and the JVM's proxy settings"));
        } finally {
            if (connection != null) {
                connection.disconnect();
            }
        }
    }

    private static String reason(IOException e) {
        if (e instanceof SocketTimeoutException) {
            return "it does not answer in " + TIMEOUT_MS / 1000 + " s";
        }
        if (e instanceof ConnectException) {
            return "nothing listens there, or a firewall refuses it";
        }
        if (e instanceof UnknownHostException) {
            return "its name is not known here";
        }
        return e instanceof SSLException ? "its certificate is not trusted, or TLS failed" : e.getClass().getSimpleName();
    }

    /** Opens a session of a metadata service by PUT, which a server that is tricked into a GET cannot do. */
    Answer session(String path, String ttlHeader) throws EndpointException {
        Answer session = askInstance("PUT", path, Map.of(ttlHeader, SESSION_SECONDS));
        String token = session.text.strip();
        if (session.good() && !token.matches("[!-~]{1,4096}")) {
            throw unusable();
        }
        return new Answer(session.status, token);
    }

    EndpointException noSession(Answer answer) {
        return error("it gives nothing (" + answer.status + ")", advice);
    }

    EndpointException unusable() {
        return error("it answers with something else than credentials", "Check object_storage.identity.endpoint in config.json");
    }

    JsonObject json(Answer answer) throws EndpointException {
        try {
            return Json.readObject(answer.text);
        } catch (IOException e) {
            throw unusable();
        }
    }

    /** A text in an answer, empty where there is none. */
    static String text(JsonObject object, String key) {
        JsonElement value = object.get(key);
        return value == null || !value.isJsonPrimitive() ? "" : value.getAsString();
    }

    /** An element of an answer in XML, whose text needs no decoding; empty where there is none. */
    static String element(String xml, String name) {
        Matcher matcher = Pattern.compile("<" + name + ">([^<>&]+)</").matcher(xml);
        return matcher.find() ? matcher.group(1) : "";
    }

    /** The token of the other authority, as whoever renews it wrote it last. */
    String webToken() throws EndpointException {
        String path = settings.required("token_path");
        String problem;
        try {
            String token = Files.readString(Paths.get(path), StandardCharsets.US_ASCII).strip();
            if (token.matches("[!-~]+")) {
                return token;
            }
            problem = "holds no token";
        } catch (NoSuchFileException e) {
            problem = "does not exist";
        } catch (AccessDeniedException e) {
            problem = "this user must not read";
        } catch (IOException | InvalidPathException e) {
            problem = "holds no token";
        }
        throw settings.error("token_path", "names " + path + ", which " + problem);
    }

    Answer postForm(String path, Map<String, String> form) throws EndpointException {
        return post(url(), path, Map.of("Content-Type", "application/x-www-form-urlencoded"), form(form));
    }

    static String form(Map<String, String> fields) {
        return fields.entrySet().stream()
                .map(field -> UrlEncoding.value(field.getKey()) + "=" + UrlEncoding.value(field.getValue()))
                .collect(Collectors.joining("&"));
    }

    /** A time in an answer. One that is over is an error: a clock is wrong, or the answer is an old one. */
    Instant expiry(String text, Instant now) throws EndpointException {
        try {
            return future(OffsetDateTime.parse(text).toInstant(), now);
        } catch (DateTimeParseException e) {
            throw unusable();
        }
    }

    /** The same for a number of seconds from now. */
    Instant lifetime(String seconds, Instant now) throws EndpointException {
        if (!seconds.matches("[0-9]{1,9}")) {
            throw unusable();
        }
        return future(now.plusSeconds(Long.parseLong(seconds)), now);
    }

    private Instant future(Instant expires, Instant now) throws EndpointException {
        if (!expires.isAfter(now)) {
            throw error("what it gives expired at " + expires, "Correct the clock of this machine");
        }
        return expires;
    }

    Keys keys(String accessKey, String secretKey, String token, String expires, Instant now) throws EndpointException {
        if (accessKey.isEmpty() || secretKey.isEmpty() || token.isEmpty()) {
            throw unusable();
        }
        return new Keys(accessKey, secretKey, token, expiry(expires, now));
    }
}
