package org.modelfleet.serving.endpoint;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Paths;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A Google service account's key file. */
final class ServiceAccount {
    private static final Pattern PEM = Pattern.compile("-----BEGIN PRIVATE\\sKEY-----(.+)-----END PRIVATE\\sKEY-----", Pattern.DOTALL);

    final String email;
    private final PrivateKey key;

    private ServiceAccount(String email, PrivateKey key) {
        this.email = email;
        this.key = key;
    }

    static ServiceAccount read(Settings settings, String setting) throws EndpointException {
        String path = settings.required(setting);
        String problem;
        try {
            JsonObject file = Json.readObject(Files.readString(Paths.get(path)));
            if ("service_account".equals(text(file, "type")) && !text(file, "client_email").isEmpty()) {
                return new ServiceAccount(text(file, "client_email"), parse(text(file, "private_key")));
            }
            problem = "is not the key of a service account: it needs type, client_email and private_key";
        } catch (NoSuchFileException e) {
            problem = "does not exist";
        } catch (AccessDeniedException e) {
            problem = "this user must not read";
        } catch (IOException | InvalidPathException e) {
            // The parser's own message may quote the text.
            problem = "is no file with a JSON object";
        } catch (GeneralSecurityException | IllegalArgumentException e) {
            problem = "has a private_key that is no RSA key in PKCS #8";
        }
        throw settings.error(setting, "names " + path + ", which " + problem);
    }

    byte[] sign(String text) {
        try {
            Signature signature = Signature.getInstance("SHA256withRSA");
            signature.initSign(key);
            signature.update(text.getBytes(StandardCharsets.UTF_8));
            return signature.sign();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    private static String text(JsonObject file, String key) {
        JsonElement value = file.get(key);
        return value == null || !value.isJsonPrimitive() ? "" : value.getAsString();
    }

    private static PrivateKey parse(String pem) throws GeneralSecurityException {
        Matcher matcher = PEM.matcher(pem);
        if (!matcher.find()) {
            throw new IllegalArgumentException();
        }
        byte[] der = Base64.getMimeDecoder().decode(matcher.group(1));
        return KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(der));
    }
}
