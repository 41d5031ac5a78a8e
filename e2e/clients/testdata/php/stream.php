<?php
// docs: php
function listen(string $url, callable $show): int
{
    $lastId = '';
    $retry = 3000;
    while (true) {
        $rest = '';
        [$event, $data, $id] = ['message', [], ''];
        $curl = curl_init($url);
        curl_setopt_array($curl, [
            CURLOPT_HTTPHEADER => array_filter(['Accept: text/event-stream', $lastId === '' ? '' : "Last-Event-ID: $lastId"]),
            CURLOPT_CONNECTTIMEOUT => 10,
            CURLOPT_LOW_SPEED_LIMIT => 1, // three heartbeats of silence
            CURLOPT_LOW_SPEED_TIME => 45,
            CURLOPT_WRITEFUNCTION => function ($curl, $chunk) use (&$rest, &$event, &$data, &$id, &$lastId, &$retry, $show) {
                if (curl_getinfo($curl, CURLINFO_RESPONSE_CODE) !== 200) {
                    return strlen($chunk);
                }
                $lines = explode("\n", $rest . $chunk);
                $rest = array_pop($lines);
                foreach ($lines as $line) {
                    [$field, $value] = explode(':', $line, 2) + ['', ''];
                    $value = str_starts_with($value, ' ') ? substr($value, 1) : $value;
                    if ($field === 'event') {
                        $event = $value;
                    } elseif ($field === 'data') {
                        $data[] = $value;
                    } elseif ($field === 'id') {
                        $id = $value;
                    } elseif ($field === 'retry') {
                        $retry = (int) $value;
                    } elseif ($line === '') {
                        $lastId = $id === '' ? $lastId : $id;
                        if ($data !== [] && $event !== 'peald.mark') {
                            $show($event, implode("\n", $data), $lastId); // on peald.reset, fetch the state again
                        }
                        [$event, $data, $id] = ['message', [], ''];
                    }
                }
                return strlen($chunk);
            },
        ]);
        curl_exec($curl); // returns when the response ends, or the connection is refused or breaks
        $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        if ($status === 204 || ($status >= 400 && $status < 500)) {
            return $status;
        }
        usleep($retry * 1000);
    }
}
// docs: end
