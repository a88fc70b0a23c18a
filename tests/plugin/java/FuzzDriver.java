package org.modelfleet.serving.endpoint;

import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.pytorch.serve.servingsdk.http.Request;

/**
 * Test only: reads random files as config.json and random requests, and says how many were taken and refused. Arguments: seed, count and a
 * file to write to. It ends with 1 for anything else than an answer or an EndpointException, and with 2 for an input that takes too long;
 * the input is then on standard error.
 */
public final class FuzzDriver {
    private static final long MOST_MILLISECONDS = 10_000;
    private static final String SECRET = "PLANTED-secret";
    private static final String[] TEXTS = {
        "", " ", "\0", "\n", "a", "s3", "..", "/", "//", "a/b", "é", "\ud800", "\ud83d\ude42", "x".repeat(300), "x".repeat(20_000), "/x".repeat(20_000),
        "http://127.0.0.1:4001", "http://[::1]:1", "http://[1:2", "https://u:p@h/", "http://h:99999", "http://h/" + "%41".repeat(9000), "-1", "1e9",
        "true", "%", "%zz", "?", "#", "&", "a&b,c", "\u2028", "*", "{}", "0".repeat(64), "127.0.0.1", "[::1]", "h..h", "-h-", "h_h", "/var/x", "x\0y",
    };
    private static final String[] JUNK = {
        "null", "true", "false", "0", "-1", "1.5", "1e400", "1e999999999", "-1e-999999999", "9".repeat(5000), "[]", "{}", "[null]", "[[1]]", "{\"a\":{}}",
        "[".repeat(50_000) + "]".repeat(50_000), "{\"a\":".repeat(50_000) + "1" + "}".repeat(50_000), "NaN", "'x'", "[1,]", "",
    };
    private static final String[][] STORES = {
        {"type", "s3", "bucket_name", "models", "region", "eu-west-1", "access_key", "a", "secret_key", SECRET, "session_token", SECRET, "endpoint", "h:9000"},
        {"type", "oss", "bucket_name", "models", "endpoint", "oss-cn-hangzhou.aliyuncs.com", "access_key_id", "a", "access_key_secret", SECRET},
        {"type", "gcs", "bucket_name", "models", "project_id", "p", "service_account_path", "/nowhere"},
        {"type", "abs", "account_name", "fleet", "account_key", "UExBTlRFRA==", "container_name", "models", "endpoint", "https://h"},
        {"type", "obs", "bucket_name", "models", "region", "cn-north-4", "access_key_id", "a", "secret_access_key", SECRET},
        {"type", "http", "url", "https://h:8443/archives"},
    };
    /** What may stand in a block identity. */
    private static final String[] IDENTITY = {
        "source", "endpoint", "role_arn", "token_path", "oidc_provider_arn", "audience", "service_account", "iam_endpoint", "tenant_id", "client_id",
    };
    private static final String[] SOURCES = {"instance", "web_identity"};
    private static final String[] OTHERS = {
        "addr", "header", "filter", "require_sha256", "incoming_dir", "piece_length", "retry_seconds", "read_timeout", "url_expiry",
    };
    private static final String[] PARAMETERS = {
        "file_name", "sha256", "model_name", "model_version", "runtime", "handler", "batch_size", "max_batch_delay", "initial_workers",
        "response_timeout", "startup_timeout", "synchronous", "url",
    };

    /** Files in which something was found that is mended. */
    private static final String[] FOUND = {
        "{\"addr\":\"http://h" + "/%41".repeat(20_000) + "\"}",
        "{\"addr\":\"http://127.0.0.1:4001\",\"retry_seconds\":1e999999999,\"object_storage\":{\"type\":\"http\",\"url\":\"http://h\"}}",
        "{\"addr\":\"\\u00g0\"}",
    };

    private static volatile String input = "";
    private static volatile long begun = Long.MAX_VALUE;

    private FuzzDriver() {}

    public static void main(String[] args) throws Exception {
        Random random = new Random(Long.parseLong(args[0]));
        Path file = Paths.get(args[2]);
        Thread watch = new Thread(FuzzDriver::watch);
        watch.setDaemon(true);
        watch.start();
        for (String text : FOUND) {
            input = text;
            begun = System.currentTimeMillis();
            Files.writeString(file, text);
            try {
                EndpointConfig.load(file);
                fail("takes what it must refuse", 1);
            } catch (EndpointException e) {
                // It says why.
            } catch (Throwable e) {
                fail(e.toString(), 1);
            }
        }
        int taken = 0;
        int refused = 0;
        for (int count = Integer.parseInt(args[1]); count > 0; count--) {
            try {
                begun = System.currentTimeMillis();
                if (count % 2 == 0) {
                    configure(random, file);
                } else {
                    ask(random);
                }
                taken++;
            } catch (EndpointException e) {
                if (e.getMessage().contains(SECRET) || e.getMessage().isBlank()) {
                    fail("said " + e.getMessage(), 1);
                }
                refused++;
            } catch (Throwable e) {
                fail(e + " at " + (e.getStackTrace().length == 0 ? "?" : e.getStackTrace()[0]), 1);
            }
        }
        System.out.println(taken + " taken, " + refused + " refused");
    }

    private static void watch() {
        while (true) {
            try {
                Thread.sleep(1000);
            } catch (InterruptedException e) {
                return;
            }
            if (System.currentTimeMillis() - begun > MOST_MILLISECONDS) {
                fail("it does not end", 2);
            }
        }
    }

    private static void fail(String problem, int status) {
        String shown = input.length() > 2000 ? input.substring(0, 1000) + " ... " + input.substring(input.length() - 1000) : input;
        System.err.println(problem + "\n" + shown);
        System.err.flush();
        Runtime.getRuntime().halt(status);
    }

    private static void configure(Random random, Path file) throws Exception {
        Map<String, String> storage = new LinkedHashMap<>();
        String[] store = STORES[random.nextInt(STORES.length)];
        for (int at = 0; at < store.length; at += 2) {
            storage.put(quoted(store[at]), quoted(store[at + 1]));
        }
        boolean withIdentity = random.nextInt(6) == 0;
        if (withIdentity) {
            Map<String, String> identity = new LinkedHashMap<>();
            for (String key : IDENTITY) {
                identity.put(quoted(key), random.nextInt(4) == 0 ? value(random) : quoted("/var/" + key));
            }
            identity.put(quoted("source"), quoted(SOURCES[random.nextInt(SOURCES.length)]));
            identity.put(quoted("endpoint"), quoted("http://h"));
            change(random, identity);
            storage.keySet().removeIf(key -> key.matches(".*(key|secret|token|service_account_path).*"));
            storage.put(quoted("identity"), random.nextInt(12) == 0 ? value(random) : object(identity));
        }
        change(random, storage);
        Map<String, String> config = new LinkedHashMap<>();
        config.put(quoted("addr"), quoted("http://127.0.0.1:4001"));
        config.put(quoted("object_storage"), object(storage));
        for (String key : OTHERS) {
            if (random.nextInt(12) == 0) {
                config.put(quoted(key), value(random));
            }
        }
        change(random, config);
        input = random.nextInt(30) == 0 ? JUNK[random.nextInt(JUNK.length)] : object(config);
        byte[] content = input.getBytes(StandardCharsets.UTF_8);
        if (random.nextInt(6) == 0 && content.length > 0) {
            content[random.nextInt(content.length)] = (byte) random.nextInt(256);
        }
        Files.write(file, content);
        EndpointConfig found = EndpointConfig.load(file);
        String key = text(random);
        // A key that RegisterQuery takes.
        if (!key.isEmpty() && key.length() < 5000) {
            input += "\n" + key;
            // An identity would be asked over the network.
            if (!withIdentity) {
                found.storage.presignGet(key, Instant.ofEpochSecond(1_800_000_000L), found.urlExpirySeconds);
            }
            found.storage.signatureParameters();
            found.storage.headers();
            if (found.storage.describe(key).contains(SECRET)) {
                fail("shows a secret", 1);
            }
        }
    }

    private static void change(Random random, Map<String, String> values) {
        List<String> keys = new ArrayList<>(values.keySet());
        if (random.nextInt(2) == 0) {
            String key = keys.get(random.nextInt(keys.size()));
            if (random.nextInt(3) == 0) {
                values.remove(key);
            } else {
                values.put(key, value(random));
            }
        }
        if (random.nextInt(8) == 0) {
            values.put(quoted(text(random)), value(random));
        }
    }

    private static void ask(Random random) throws Exception {
        Map<String, List<String>> parameters = new LinkedHashMap<>();
        parameters.put("file_name", List.of("models/a.mar"));
        for (int turn = random.nextInt(4); turn > 0; turn--) {
            parameters.put(PARAMETERS[random.nextInt(PARAMETERS.length)], random.nextInt(9) == 0 ? List.of() : List.of(text(random), text(random)));
        }
        input = parameters.toString();
        Request request = (Request) Proxy.newProxyInstance(
                FuzzDriver.class.getClassLoader(),
                new Class<?>[] {Request.class},
                (proxy, method, given) -> "getParameter".equals(method.getName()) ? parameters.get(given[0]) : null);
        RegisterQuery query = new RegisterQuery(request, random.nextBoolean());
        for (String part : query.object.split("/")) {
            if ("..".equals(part)) {
                fail("leads elsewhere", 1);
            }
        }
    }

    private static String text(Random random) {
        if (random.nextInt(3) > 0) {
            return TEXTS[random.nextInt(TEXTS.length)];
        }
        StringBuilder text = new StringBuilder();
        for (int left = random.nextInt(12); left > 0; left--) {
            text.append((char) (random.nextInt(4) == 0 ? random.nextInt(0x10000) : 32 + random.nextInt(96)));
        }
        return text.toString();
    }

    private static String value(Random random) {
        return random.nextBoolean() ? quoted(text(random)) : JUNK[random.nextInt(JUNK.length)];
    }

    private static String object(Map<String, String> values) {
        StringBuilder text = new StringBuilder("{");
        values.forEach((key, value) -> text.append(text.length() > 1 ? "," : "").append(key).append(':').append(value));
        return text.append('}').toString();
    }

    private static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            quoted.append(c < 32 || c == '"' || c == '\\' || Character.isSurrogate(c) ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        }
        return quoted.append('"').toString();
    }
}
