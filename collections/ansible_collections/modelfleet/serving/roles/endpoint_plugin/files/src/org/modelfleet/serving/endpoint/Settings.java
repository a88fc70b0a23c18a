package org.modelfleet.serving.endpoint;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.math.BigDecimal;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/** One object of config.json with errors that name file and key, and never a value. */
final class Settings {
    private static final Pattern NAME = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]*");
    private static final Pattern HEADER_NAME = Pattern.compile("[A-Za-z0-9!#$%&'*+.^_`|~-]+");
    private static final Pattern HEADER_VALUE = Pattern.compile("[\\t\\x20-\\x7e]*");

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

    boolean has(String key) {
        return values.has(key) && !values.get(key).isJsonNull();
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
        return seconds(key, fallback, 0, Integer.MAX_VALUE);
    }

    int seconds(String key, int fallback, int least, int most) throws EndpointException {
        JsonPrimitive value = primitive(key);
        try {
            // Compared before it becomes an int, in which 1e999999999 would be 0.
            BigDecimal seconds = value == null ? BigDecimal.valueOf(fallback) : new BigDecimal(value.getAsString());
            if (seconds.compareTo(BigDecimal.valueOf(least)) >= 0 && seconds.compareTo(BigDecimal.valueOf(most)) <= 0) {
                return seconds.compareTo(BigDecimal.ONE) < 0 ? 0 : seconds.intValue();
            }
        } catch (NumberFormatException e) {
            // The one message below serves both.
        }
        throw error(key, most == Integer.MAX_VALUE
                ? "must be a number of seconds"
                : String.format("must be a number of seconds from %d to %d", least, most));
    }

    /** A name that can be a part of a host name. */
    String name(String key) throws EndpointException {
        return checkedName(key, required(key));
    }

    String name(String key, String fallback) throws EndpointException {
        String value = optional(key, fallback);
        return value.isEmpty() ? value : checkedName(key, value);
    }

    private String checkedName(String key, String value) throws EndpointException {
        if (!NAME.matcher(value).matches()) {
            throw error(key, "must be letters, digits, '.', '_' and '-'");
        }
        return value;
    }

    /** The first of these keys that has a value. */
    String requiredOneOf(String key, String otherName) throws EndpointException {
        String value = optional(key, optional(otherName, ""));
        return value.isEmpty() ? required(key) : value;
    }

    String choice(String key, String fallback, List<String> choices) throws EndpointException {
        String value = optional(key, fallback);
        if (!choices.contains(value)) {
            throw error(key, "must be one of " + String.join(", ", choices));
        }
        return value;
    }

    /** A server whose scheme may be left out: to a store it matters only when a port is given. */
    Location server(String key) throws EndpointException {
        return server(key, required(key));
    }

    Location server(String key, String fallback) throws EndpointException {
        String text = optional(key, fallback);
        Location location = Location.parse(text.contains("://") ? text : (text.endsWith(":80") ? "http://" : "https://") + text);
        if (location == null || location.hasPath()) {
            throw error(key, "must be a URL without user, path and query, for example https://store.example.com:9000");
        }
        return location;
    }

    Location url(String key) throws EndpointException {
        Location location = Location.parse(required(key));
        if (location == null) {
            throw error(key, "must be a URL without user and query, for example https://models.example.com/archives");
        }
        return location;
    }

    Settings section(String key) throws EndpointException {
        JsonElement value = values.get(key);
        if (value == null || !value.isJsonObject()) {
            throw error(key, "is missing or not an object");
        }
        return new Settings(file, prefix + key + ".", value.getAsJsonObject());
    }

    /** Names and values that can be sent as HTTP headers. */
    Map<String, String> headers(String key) throws EndpointException {
        Map<String, String> headers = new LinkedHashMap<>();
        if (has(key)) {
            Settings section = section(key);
            for (String name : section.values.keySet()) {
                String value = section.optional(name, "");
                if (!HEADER_NAME.matcher(name).matches() || !HEADER_VALUE.matcher(value).matches()) {
                    throw error(key, "has a name or a value that cannot be sent as an HTTP header");
                }
                headers.put(name, value);
            }
        }
        return headers;
    }

    /** A list of texts, or one text. */
    List<String> list(String key) throws EndpointException {
        List<String> list = new ArrayList<>();
        JsonElement value = values.get(key);
        if (value == null || value.isJsonNull()) {
            return list;
        }
        if (value.isJsonPrimitive()) {
            return List.of(value.getAsString());
        }
        if (!value.isJsonArray()) {
            throw error(key, "must be a list of texts");
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
