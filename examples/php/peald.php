<?php
// Publishes to a topic and sends to a user with peald's REST API.
//
//   PEALCTL_REST_URL  URL of the daemon's rest.addr (http://127.0.0.1:9091)
//   PEALCTL_TOKEN     a token from control.tokens, if the daemon has any
//
// Usage: php peald.php [USER [ORDER]]

declare(strict_types=1);

/** An error that the daemon has returned, with a reason such as INVALID_FIELD. */
final class ControlException extends RuntimeException
{
    public function __construct(public readonly string $reason, string $message)
    {
        parent::__construct($message);
    }
}

/**
 * Posts a message and returns the reply. If there is none, or a status such as 503,
 * it isn't known whether the message was published. So the message is posted again,
 * until 10 s have passed. Its idempotency key makes that safe.
 */
function post(string $path, array $message): array
{
    $deadline = microtime(true) + 10;
    $request = curl_init((getenv('PEALCTL_REST_URL') ?: 'http://127.0.0.1:9091') . $path);
    $token = getenv('PEALCTL_TOKEN');
    curl_setopt_array($request, [
        CURLOPT_POSTFIELDS => json_encode($message, JSON_THROW_ON_ERROR),
        CURLOPT_HTTPHEADER => ['Content-Type: application/json', ...($token ? ["Authorization: Bearer $token"] : [])],
        CURLOPT_RETURNTRANSFER => true,
    ]);

    for ($delay = 0.2; ; $delay *= 2) {
        curl_setopt($request, CURLOPT_TIMEOUT_MS, max(1, (int) (1000 * ($deadline - microtime(true)))));
        $body = curl_exec($request);
        $status = curl_getinfo($request, CURLINFO_RESPONSE_CODE);

        if ($body !== false && $status < 500) {
            break;
        }

        if (microtime(true) + $delay > $deadline) {
            throw new RuntimeException($body === false ? curl_error($request) : "HTTP status $status: $body");
        }

        usleep((int) (1_000_000 * $delay));
    }

    $reply = json_decode($body, true, flags: JSON_THROW_ON_ERROR);
    if ($status === 200) {
        return $reply;
    }

    foreach ($reply['details'] ?? [] as $detail) {
        if ($detail['@type'] === 'type.googleapis.com/google.rpc.ErrorInfo') {
            throw new ControlException($detail['reason'], $reply['message']);
        }
    }

    throw new RuntimeException("HTTP status $status: {$reply['message']}");
}

[$user, $order] = array_slice($argv, 1) + ['alice', '7'];

try {
    $reply = post('/v1/topics/' . rawurlencode("orders.$order") . '/messages', [
        'event' => 'paid',
        'data' => "Order $order is paid ☀\n(from PHP)",
        'idempotency_key' => "php-order-$order-paid",
    ]);
    echo "To orders.$order: event {$reply['id']}, queued to {$reply['recipients']} streams\n";

    $reply = post('/v1/users/' . rawurlencode($user) . '/messages', [
        'data' => "Thank you for order $order, from PHP",
        'idempotency_key' => "php-order-$order-thanks",
    ]);
    echo "To $user: event {$reply['id']}, queued to {$reply['recipients']} streams\n";
} catch (ControlException $error) {
    if ($error->reason !== 'IDEMPOTENCY_KEY_USED') {
        fwrite(STDERR, "{$error->reason}: {$error->getMessage()}\n");
        exit(1);
    }

    echo "Another user was already thanked for order $order\n";
} catch (RuntimeException $error) {
    fwrite(STDERR, "{$error->getMessage()}\n");
    exit(1);
}
