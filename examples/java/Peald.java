import static io.grpc.Metadata.ASCII_STRING_MARSHALLER;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import google.rpc.ErrorInfo;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import peal.v1.Control.PublishRequest;
import peal.v1.Control.PublishResponse;
import peal.v1.Control.SendToUserRequest;
import peal.v1.Control.SendToUserResponse;
import peal.v1.ControlServiceGrpc;
import peal.v1.ControlServiceGrpc.ControlServiceBlockingStub;

/**
 * Publishes to a topic and sends to a user with peald's control plane.
 *
 * <pre>
 * PEALCTL_ADDR   the daemon's grpc.addr (127.0.0.1:9090)
 * PEALCTL_TOKEN  a token from control.tokens, if the daemon has any
 *
 * Usage: java @classpath Peald [USER [ORDER]]
 * </pre>
 */
public class Peald {
    /**
     * Calls that fail with UNAVAILABLE are retried until their deadline, because it isn't known
     * whether they published anything. Idempotency keys make that safe.
     */
    static final Map<String, ?> RETRIES = Map.of("methodConfig", List.of(Map.of(
            "name", List.of(Map.of("service", ControlServiceGrpc.SERVICE_NAME)),
            "retryPolicy", Map.of(
                    "maxAttempts", 5.0, "initialBackoff", "0.2s", "maxBackoff", "2s", "backoffMultiplier", 2.0,
                    "retryableStatusCodes", List.of("UNAVAILABLE")))));

    public static void main(String[] args) throws Exception {
        String user = args.length > 0 ? args[0] : "alice";
        String order = args.length > 1 ? args[1] : "7";
        String addr = Objects.requireNonNullElse(System.getenv("PEALCTL_ADDR"), "127.0.0.1:9090");
        ManagedChannel channel = ManagedChannelBuilder.forTarget(addr)
                .usePlaintext()
                .enableRetry()
                .defaultServiceConfig(RETRIES)
                .build();
        try {
            reportPaid(ControlServiceGrpc.newBlockingStub(channel), user, order);
        } catch (StatusRuntimeException e) {
            String reason = reason(e);
            if (!reason.equals("IDEMPOTENCY_KEY_USED")) {
                System.err.println(e.getMessage() + " (" + reason + ")");
                System.exit(1);
            }
            System.out.println("Another user was already thanked for order " + order);
        } finally {
            channel.shutdown();
        }
    }

    static void reportPaid(ControlServiceBlockingStub control, String user, String order) {
        String token = System.getenv("PEALCTL_TOKEN");
        if (token != null) {
            Metadata metadata = new Metadata();
            metadata.put(Metadata.Key.of("authorization", ASCII_STRING_MARSHALLER), "Bearer " + token);
            control = control.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata));
        }

        PublishResponse paid = control.withDeadlineAfter(10, TimeUnit.SECONDS).publish(PublishRequest.newBuilder()
                .setTopic("orders." + order)
                .setEvent("paid")
                .setData("Order " + order + " is paid ☀\n(from Java)")
                .setIdempotencyKey("java-order-" + order + "-paid")
                .build());
        System.out.printf("To orders.%s: event %s, queued to %d streams%n", order, paid.getId(), paid.getRecipients());

        SendToUserResponse thanks = control.withDeadlineAfter(10, TimeUnit.SECONDS).sendToUser(SendToUserRequest.newBuilder()
                .setUserId(user)
                .setData("Thank you for order " + order + ", says Java")
                .setIdempotencyKey("java-order-" + order + "-thanks")
                .build());
        System.out.printf("To %s: event %s, queued to %d streams%n", user, thanks.getId(), thanks.getRecipients());
    }

    /** Returns the reason of an error, such as "INVALID_FIELD"; empty if it has none. */
    static String reason(StatusRuntimeException error) throws InvalidProtocolBufferException {
        for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
            if (detail.is(ErrorInfo.class)) {
                return detail.unpack(ErrorInfo.class).getReason();
            }
        }
        return "";
    }
}
