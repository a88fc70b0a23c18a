package org.modelfleet.serving.endpoint;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import java.io.IOException;
import java.util.Map;

/** JSON with the parser that TorchServe itself brings. */
final class Json {
    private static final Gson GSON = new GsonBuilder().disableHtmlEscaping().create();

    private Json() {}

    static String write(Map<String, Object> value) {
        return GSON.toJson(value);
    }

    /** Unlike {@code Gson.fromJson} this refuses what is not JSON by the letter. */
    static JsonObject readObject(String text) throws IOException {
        try {
            JsonElement element = GSON.getAdapter(JsonElement.class).fromJson(text);
            if (element == null || !element.isJsonObject()) {
                throw new IOException("it is not a JSON object");
            }
            return element.getAsJsonObject();
        } catch (JsonParseException | NumberFormatException e) {
            // The latter for what stands behind a backslash and u.
            throw new IOException("it is not valid JSON", e);
        }
    }
}
