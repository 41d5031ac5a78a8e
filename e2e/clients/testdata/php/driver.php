<?php
// Runs a client for the tests: php driver.php NAME=URL... Each process holds one
// stream, as a PHP worker does.
require __DIR__ . '/stream.php';

foreach (array_slice($argv, 1) as $argument) {
    if (pcntl_fork() !== 0) {
        continue;
    }
    [$stream, $url] = explode('=', $argument, 2);
    $put = fn (array $line) => fwrite(STDOUT, json_encode(['stream' => $stream] + $line) . "\n");
    $why = listen($url, fn ($event, $data, $id) => $put([
        'type' => $event, 'id' => $id, 'bytes' => strlen($data), 'md5' => md5($data),
    ]));
    $put(['ended' => (string) $why]);
    exit(0);
}
pcntl_async_signals(true);
pcntl_signal(SIGTERM, fn () => posix_kill(0, SIGKILL));
while (true) {
    sleep(60);
}
