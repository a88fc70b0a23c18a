package org.modelfleet.serving.endpoint;

import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Paths;
import java.time.Instant;

/** Test only: signs one URL for every line {storage, key, now, expires} of its input. */
public final class SignerDriver {
    private SignerDriver() {}

    public static void main(String[] args) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonObject test = Json.readObject(line);
            Settings settings = new Settings(Paths.get("test"), "object_storage.", test.getAsJsonObject("storage"));
            ObjectStorage storage = new S3ObjectStorage(settings);
            Instant now = Instant.ofEpochSecond(test.get("now").getAsLong());
            System.out.println(storage.presignGet(test.get("key").getAsString(), now, test.get("expires").getAsLong()));
        }
    }
}
