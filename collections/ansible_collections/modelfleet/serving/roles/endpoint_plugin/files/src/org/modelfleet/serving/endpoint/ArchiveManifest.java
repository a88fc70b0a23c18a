package org.modelfleet.serving.endpoint;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/** Name and version that a model archive gives itself. */
final class ArchiveManifest {
    private static final String ENTRY = "MAR-INF/MANIFEST.json";

    final String name;
    final String version;

    private ArchiveManifest(String name, String version) {
        this.name = name;
        this.version = version;
    }

    static ArchiveManifest read(Path archive, String object) throws EndpointException {
        JsonObject model;
        try (ZipFile zip = new ZipFile(archive.toFile())) {
            ZipEntry entry = zip.getEntry(ENTRY);
            if (entry == null) {
                throw refusal(object, "it has no " + ENTRY);
            }
            try (InputStream stream = zip.getInputStream(entry)) {
                JsonElement element = Json.readObject(new String(stream.readAllBytes(), StandardCharsets.UTF_8)).get("model");
                if (element == null || !element.isJsonObject()) {
                    throw refusal(object, "its " + ENTRY + " has no entry \"model\"");
                }
                model = element.getAsJsonObject();
            }
        } catch (IOException e) {
            throw refusal(object, "it is not a zip file with a readable " + ENTRY);
        }
        return new ArchiveManifest(field(model, "modelName", object), field(model, "modelVersion", object));
    }

    private static String field(JsonObject model, String key, String object) throws EndpointException {
        JsonElement value = model.get(key);
        if (value == null || !value.isJsonPrimitive() || value.getAsString().isEmpty()) {
            throw refusal(object, key + " in its manifest is missing");
        }
        return value.getAsString();
    }

    /** For an archive whose name and version become part of the name of its file. */
    void requireFileName(String object) throws EndpointException {
        if (!ModelName.isName(name) || !ModelName.isName(version)) {
            throw refusal(object, (ModelName.isName(name) ? "modelVersion" : "modelName") + " in its manifest " + ModelName.RULE);
        }
    }

    private static EndpointException refusal(String object, String problem) {
        return EndpointException.badRequest(
                "Failed to use " + object + " as a model archive: " + problem + ". Build it with torch-model-archiver and publish it again.");
    }
}
