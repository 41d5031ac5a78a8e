# Runs a client for the tests: ruby driver.rb CLIENT NAME=URL...
require "digest/md5"
require "json"

require_relative ARGV.shift

$stdout.sync = true

holds = ARGV.map do |argument|
  stream, url = argument.split("=", 2)
  put = ->(line) { $stdout.write(JSON.generate({ stream: stream }.merge(line)) + "\n") }
  show = lambda do |event, data, id|
    put.call(type: event, id: id, bytes: data.bytesize, md5: Digest::MD5.hexdigest(data))
  end
  [url, show, ->(why) { put.call(ended: why.to_s) }]
end

run(holds)
sleep
