package org.modelfleet.serving.endpoint;

import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Paths;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.Map;

/** Test only: answers every line {storage, key, now, expires} of its input with a line of JSON, an {error} where the storage is refused. */
public final class SignerDriver {
    private SignerDriver() {}

    public static void main(String[] args) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            out.println(Json.write(answer(Json.readObject(line))));
        }
    }

    private static Map<String, Object> answer(JsonObject test) {
        Map<String, Object> answer = new LinkedHashMap<>();
        try {
            ObjectStorage storage = EndpointConfig.storage(new Settings(Paths.get("test"), "object_storage.", test.getAsJsonObject("storage")));
            String key = test.get("key").getAsString();
            Instant now = Instant.ofEpochSecond(test.get("now").getAsLong());
            answer.put("url", storage.presignGet(key, now, test.get("expires").getAsLong()).toString());
            answer.put("seconds", storage.signedSeconds(test.get("expires").getAsLong(), now));
            answer.put("object", storage.describe(key));
            answer.put("parameters", storage.signatureParameters());
            answer.put("headers", storage.headers());
        } catch (EndpointException e) {
            answer.put("error", e.getMessage());
        }
        return answer;
    }
}
