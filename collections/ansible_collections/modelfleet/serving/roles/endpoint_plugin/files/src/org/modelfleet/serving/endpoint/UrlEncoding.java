package org.modelfleet.serving.endpoint;

import java.nio.charset.StandardCharsets;

/** Percent encoding by RFC 3986, as signatures want it: everything but the unreserved characters, upper-case hexadecimal. */
final class UrlEncoding {
    private static final String UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    private static final char[] HEX = "0123456789ABCDEF".toCharArray();

    private UrlEncoding() {}

    static String value(String text) {
        return encode(text, "");
    }

    static String path(String text) {
        return encode(text, "/");
    }

    private static String encode(String text, String alsoKept) {
        StringBuilder out = new StringBuilder();
        for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
            char c = (char) (b & 0xff);
            if (UNRESERVED.indexOf(c) >= 0 || alsoKept.indexOf(c) >= 0) {
                out.append(c);
            } else {
                out.append('%').append(HEX[c >> 4]).append(HEX[c & 15]);
            }
        }
        return out.toString();
    }
}
