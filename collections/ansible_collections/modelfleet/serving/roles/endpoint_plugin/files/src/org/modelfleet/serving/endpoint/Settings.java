package org.modelfleet.serving.endpoint;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** One object of config.json with errors that name file and key, and never a value. */
final class Settings {
    private final Path file;
    private final String prefix;
    private final JsonObject values;

    Settings(Path file, String prefix, JsonObject values) {
        this.file = file;
        this.prefix = prefix;
        this.values = values;
    }

    EndpointException error(String key, String problem) {
        return EndpointException.internal(String.format(
                "Failed to use the endpoint configuration %s: %s%s %s. Correct the file; it is read again at the next call.",
                file, prefix, key, problem));
    }

    String required(String key) throws EndpointException {
        String value = optional(key, "");
        if (value.isEmpty()) {
            throw error(key, "is missing");
        }
        return value;
    }

    String optional(String key, String fallback) throws EndpointException {
        JsonPrimitive value = primitive(key);
        return value == null || value.getAsString().isEmpty() ? fallback : value.getAsString();
    }

    boolean flag(String key) throws EndpointException {
        JsonPrimitive value = primitive(key);
        if (value != null && !value.isBoolean()) {
            throw error(key, "must be true or false");
        }
        return value != null && value.getAsBoolean();
    }

    int seconds(String key, int fallback) throws EndpointException {
        JsonPrimitive value = primitive(key);
        try {
            int seconds = value == null ? fallback : value.getAsInt();
            if (seconds >= 0) {
                return seconds;
            }
        } catch (NumberFormatException e) {
            // The one message below serves both.
        }
        throw error(key, "must be a number of seconds");
    }

    /** A URL that names a server and nothing else. */
    URI url(String key, String text) throws EndpointException {
        try {
            URI uri = new URI(text);
            boolean http = "http".equals(uri.getScheme()) || "https".equals(uri.getScheme());
            boolean bare = uri.getRawQuery() == null && uri.getRawFragment() == null && uri.getRawUserInfo() == null;
            String path = uri.getRawPath();
            if (http && uri.getHost() != null && bare && (path == null || path.isEmpty() || "/".equals(path))) {
                return uri;
            }
        } catch (URISyntaxException e) {
            // The one message below serves both.
        }
        throw error(key, "must be a URL without path and query, for example http://127.0.0.1:4001");
    }

    Settings section(String key) throws EndpointException {
        JsonElement value = values.get(key);
        if (value == null || !value.isJsonObject()) {
            throw error(key, "is missing or not an object");
        }
        return new Settings(file, prefix + key + ".", value.getAsJsonObject());
    }

    Map<String, String> texts(String key) throws EndpointException {
        Map<String, String> texts = new LinkedHashMap<>();
        if (values.has(key) && !values.get(key).isJsonNull()) {
            Settings section = section(key);
            for (String name : section.values.keySet()) {
                texts.put(name, section.optional(name, ""));
            }
        }
        return texts;
    }

    List<String> list(String key) throws EndpointException {
        List<String> list = new ArrayList<>();
        JsonElement value = values.get(key);
        if (value == null || value.isJsonNull()) {
            return list;
        }
        if (!value.isJsonArray()) {
            throw error(key, "must be a list");
        }
        for (JsonElement element : value.getAsJsonArray()) {
            if (!element.isJsonPrimitive()) {
                throw error(key, "must be a list of texts");
            }
            list.add(element.getAsString());
        }
        return list;
    }

    private JsonPrimitive primitive(String key) throws EndpointException {
        JsonElement value = values.get(key);
        if (value == null || value.isJsonNull()) {
            return null;
        }
        if (!value.isJsonPrimitive()) {
            throw error(key, "must be a single value");
        }
        return value.getAsJsonPrimitive();
    }
}
