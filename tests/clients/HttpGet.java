// Java's HttpClient with its default trust store and default preference (HTTP/2).
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

public class HttpGet {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create(args[0])).timeout(Duration.ofSeconds(20)).build();
        var answer = client.send(request, BodyHandlers.ofByteArray());
        System.out.println(answer.statusCode() + " " + answer.body().length + " " + answer.version());
    }
}
