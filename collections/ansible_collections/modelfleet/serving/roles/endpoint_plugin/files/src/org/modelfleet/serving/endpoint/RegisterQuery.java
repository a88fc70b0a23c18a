package org.modelfleet.serving.endpoint;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import org.pytorch.serve.servingsdk.http.Request;

/** The checked parameters of one call. */
final class RegisterQuery {
    private static final Pattern SHA256 = Pattern.compile("[0-9a-f]{64}");
    private static final Pattern CONTROL = Pattern.compile("\\p{Cntrl}");
    private static final List<String> NUMBERS =
            List.of("batch_size", "max_batch_delay", "initial_workers", "response_timeout", "startup_timeout");

    final String object;
    /** Lower-case hexadecimal, or null. */
    final String sha256;
    final String modelName;
    final String modelVersion;
    /** What TorchServe is told, as given; what was not given stays with TorchServe and the model's own model-config.yaml. */
    final Map<String, String> forTorchServe = new LinkedHashMap<>();

    RegisterQuery(Request request, boolean requireSha256) throws EndpointException {
        object = object(request);
        sha256 = sha256(request, requireSha256);
        modelName = text(request, "model_name");
        modelVersion = text(request, "model_version");
        forward("model_name", modelName);
        forward("runtime", text(request, "runtime"));
        forward("handler", text(request, "handler"));
        for (String name : NUMBERS) {
            forward(name, number(request, name));
        }
        forward("synchronous", bool(request, "synchronous"));
    }

    private void forward(String name, String value) {
        if (value != null) {
            forTorchServe.put(name, value);
        }
    }

    private static String object(Request request) throws EndpointException {
        String key = text(request, "file_name");
        if (key == null) {
            throw EndpointException.badRequest("Parameter file_name is required: the key of the model archive in the object store.");
        }
        if (key.startsWith("/") || key.endsWith("/")) {
            throw EndpointException.badRequest("Parameter file_name must be a key without leading or trailing /.");
        }
        for (String segment : key.split("/")) {
            if (".".equals(segment) || "..".equals(segment)) {
                throw EndpointException.badRequest("Parameter file_name must not have the path segments . and .. in it.");
            }
        }
        return key;
    }

    private static String sha256(Request request, boolean required) throws EndpointException {
        String value = text(request, "sha256");
        if (value == null) {
            if (required) {
                throw EndpointException.badRequest(
                        "Parameter sha256 is required: the digest of the model archive. Set require_sha256 to false in config.json to do without.");
            }
            return null;
        }
        String digest = value.toLowerCase(Locale.ROOT);
        if (!SHA256.matcher(digest).matches()) {
            throw EndpointException.badRequest("Parameter sha256 must be 64 hexadecimal digits.");
        }
        return digest;
    }

    private static String number(Request request, String name) throws EndpointException {
        String value = text(request, name);
        try {
            // -1 is how the public interface says "not given".
            if (value == null || Integer.parseInt(value) >= -1) {
                return "-1".equals(value) ? null : value;
            }
        } catch (NumberFormatException e) {
            // The one message below serves both.
        }
        throw EndpointException.badRequest("Parameter " + name + " must be a whole number that is not negative.");
    }

    private static String bool(Request request, String name) throws EndpointException {
        String value = text(request, name);
        if (value == null || "true".equalsIgnoreCase(value) || "false".equalsIgnoreCase(value)) {
            return value;
        }
        throw EndpointException.badRequest("Parameter " + name + " must be true or false.");
    }

    private static String text(Request request, String name) throws EndpointException {
        List<String> values = request.getParameter(name);
        if (values == null || values.isEmpty() || values.get(0).isEmpty()) {
            return null;
        }
        // It may end up in the log.
        if (CONTROL.matcher(values.get(0)).find()) {
            throw EndpointException.badRequest("Parameter " + name + " must not have control characters.");
        }
        return values.get(0);
    }
}
