package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.net.URISyntaxException;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Where the objects of one store are: the server, and what stands between it and a key. */
final class Location {
    /** Not java.net.URI, which knows no host with an underscore. */
    private static final Pattern URL = Pattern.compile(
            "(https?)://(\\[[0-9A-Fa-f:.]+]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?"
                    + "((?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*)");

    private static final int MOST_CHARACTERS = 2048;

    final boolean tls;
    final String host;
    /** As it was given, or -1. */
    final int port;
    /** Encoded, with a slash at both ends. */
    private final String prefix;

    private Location(boolean tls, String host, int port, String prefix) {
        this.tls = tls;
        this.host = host;
        this.port = port;
        this.prefix = prefix;
    }

    /** Null when the text is not the URL of a server, perhaps with a path. */
    static Location parse(String text) {
        // A long one would take all of the stack.
        Matcher matcher = URL.matcher(text);
        if (text.length() > MOST_CHARACTERS || !matcher.matches()) {
            return null;
        }
        if (matcher.group(2).startsWith("[") && !isAddress(matcher.group(2))) {
            return null;
        }
        boolean tls = "https".equals(matcher.group(1));
        int port = matcher.group(3) == null ? -1 : Integer.parseInt(matcher.group(3));
        if (port == 0 || port > 65535) {
            return null;
        }
        return new Location(tls, matcher.group(2).toLowerCase(Locale.ROOT), port, matcher.group(4).replaceAll("/+$", "") + "/");
    }

    private static boolean isAddress(String bracketed) {
        try {
            return bracketed.equals(new URI("http://" + bracketed).getHost());
        } catch (URISyntaxException e) {
            return false;
        }
    }

    boolean hasPath() {
        return !"/".equals(prefix);
    }

    /** As the header Host has it and signatures want it: without the port that is the scheme's own. */
    String authority() {
        return port == -1 || port == (tls ? 443 : 80) ? host : host + ":" + port;
    }

    /** An IP address, which takes no subdomain. */
    boolean isAddress() {
        return host.startsWith("[") || host.matches("[0-9.]+");
    }

    Location subdomain(String name) {
        return new Location(tls, name + "." + host, port, prefix);
    }

    Location folder(String name) {
        return new Location(tls, host, port, prefix + UrlEncoding.path(name) + "/");
    }

    /** The encoded path of an object, which is signed and sent as it is. */
    String path(String key) {
        return prefix + UrlEncoding.path(key);
    }

    /** The URL for dfdaemon's proxy, which speaks plain HTTP. */
    URI url(String key, String query) {
        return URI.create("http://" + authority() + path(key) + (query.isEmpty() ? "" : "?" + query));
    }

    /** The object's own URL, without anything that lets one in. */
    String describe(String key) {
        return (tls ? "https://" : "http://") + authority() + path(key);
    }
}
