# docs: em-http-request
require "em-http-request"

def listen(url, show, ended, last_id = "", retry_after = 3.0)
  headers = { "accept" => "text/event-stream" }
  headers["last-event-id"] = last_id unless last_id.empty?
  # Allow three heartbeats of silence.
  stream = EventMachine::HttpRequest.new(url, connect_timeout: 10, inactivity_timeout: 45).get(head: headers)

  rest = +""
  event, data, id = "message", [], ""
  stream.stream do |chunk|
    next unless stream.response_header.status == 200

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

  again = lambda do |_client|
    status = stream.response_header.status
    next ended.call(status) if status == 204 || (400..499).cover?(status)

    EventMachine.add_timer(retry_after) { listen(url, show, ended, last_id, retry_after) }
  end
  stream.callback(&again) # the response is complete
  stream.errback(&again) # connection refused or broken
end
# docs: end

def run(holds)
  EventMachine.run { holds.each { |hold| listen(*hold) } }
end
