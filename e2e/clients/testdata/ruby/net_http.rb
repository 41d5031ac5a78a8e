# docs: net-http
require "net/http"

def listen(url, show)
  last_id = ""
  retry_after = 3.0
  (0..).each do |attempt|
    sleep(retry_after) if attempt.positive?
    uri = URI(url)
    request = Net::HTTP::Get.new(uri, "Accept" => "text/event-stream", "Accept-Encoding" => "identity")
    request["Last-Event-ID"] = last_id unless last_id.empty?
    # Net::HTTP retries requests itself unless max_retries is 0. Allow three
    # heartbeats of silence.
    options = { use_ssl: uri.scheme == "https", open_timeout: 10, read_timeout: 45, max_retries: 0 }
    Net::HTTP.start(uri.host, uri.port, **options) do |http|
      http.request(request) do |response|
        return response.code if response.code == "204" || response.code.start_with?("4")
        next unless response.code == "200"

        rest = +""
        event, data, id = "message", [], ""
        response.read_body do |chunk|
          rest << chunk
          *lines, rest = rest.split("\n", -1)
          lines.each do |line|
            field, value = line.force_encoding("UTF-8").split(":", 2)
            value = value.to_s.delete_prefix(" ")
            case field
            when "event" then event = value
            when "data" then data << value
            when "id" then id = value
            when "retry" then retry_after = value.to_f / 1000
            when nil
              last_id = id unless id.empty?
              show.call(event, data.join("\n"), last_id) if data.any? && event != "peald.mark" # on peald.reset, fetch the state again
              event, data, id = "message", [], ""
            end
          end
        end
      end
    end
  rescue SystemCallError, SocketError, IOError, Timeout::Error, Net::ProtocolError
    # connection refused or broken
  end
end
# docs: end

def run(holds)
  holds.each { |url, show, ended| Thread.new { ended.call(listen(url, show)) } }
end
