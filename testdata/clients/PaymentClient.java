import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/**
 * Asks the payment service and prints its answer, once or N times. It knows the
 * service by name and nothing of usher: java PaymentClient.java [N [URL]]
 */
public class PaymentClient {
  public static void main(String[] args) throws Exception {
    int times = args.length > 0 ? Integer.parseInt(args[0]) : 1;
    String url = args.length > 1 ? args[1] : "http://payment-service.finance/process";
    HttpRequest request = HttpRequest.newBuilder(URI.create(url)).GET().build();
    for (int i = 0; i < times; i++) {
      // A client keeps its connection for the next request, and a connection
      // stays with its backend: a new client each time makes a new one.
      HttpResponse<String> response =
          HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
      if (response.statusCode() != 200) {
        throw new IllegalStateException("status " + response.statusCode());
      }
      System.out.println(response.body().strip());
    }
  }
}
