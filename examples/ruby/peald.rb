# Publishes to a topic and sends to a user with peald's control plane.
#
#   PEALCTL_ADDR   the daemon's grpc.addr (127.0.0.1:9090)
#   PEALCTL_TOKEN  a token from control.tokens, if the daemon has any
#
# Usage: ruby -I stubs peald.rb [USER [ORDER]]
require "google/protobuf/well_known_types"
require "google/rpc/error_details_pb"
require "grpc"
require "json"
require "peal/v1/control_services_pb"

include Peal::V1

# Calls that fail with UNAVAILABLE are retried until their deadline, because it
# isn't known whether they published anything. Idempotency keys make that safe.
RETRIES = JSON.generate(
  methodConfig: [{
    name: [{ service: ControlService::Service.service_name }],
    retryPolicy: {
      maxAttempts: 5, initialBackoff: "0.2s", maxBackoff: "2s", backoffMultiplier: 2,
      retryableStatusCodes: ["UNAVAILABLE"],
    },
  }],
)

# Returns the reason of an error, such as "IDEMPOTENCY_KEY_USED"; nil if it has none.
def reason(error)
  details = error.to_rpc_status&.details.to_a
  details.filter_map { |detail| detail.unpack(Google::Rpc::ErrorInfo) }.first&.reason
end

user = ARGV.fetch(0, "alice")
order = ARGV.fetch(1, "7")

token = ENV["PEALCTL_TOKEN"]
metadata = token ? { authorization: "Bearer #{token}" } : {}
control = ControlService::Stub.new(
  ENV.fetch("PEALCTL_ADDR", "127.0.0.1:9090"), :this_channel_is_insecure,
  timeout: 10, # seconds until a call's deadline, including retries
  channel_args: { "grpc.service_config" => RETRIES },
)

begin
  reply = control.publish(
    PublishRequest.new(
      topic: "orders.#{order}", event: "paid", data: "Order #{order} is paid ☀\n(from Ruby)",
      idempotency_key: "ruby-order-#{order}-paid",
    ),
    metadata: metadata,
  )
  puts "To orders.#{order}: event #{reply.id}, queued to #{reply.recipients} streams"

  reply = control.send_to_user(
    SendToUserRequest.new(
      user_id: user, data: "Thank you for order #{order}, from Ruby",
      idempotency_key: "ruby-order-#{order}-thanks",
    ),
    metadata: metadata,
  )
  puts "To #{user}: event #{reply.id}, queued to #{reply.recipients} streams"
rescue GRPC::BadStatus => error
  abort "#{error.class.name.split("::").last} (#{reason(error)}): #{error.details}" unless reason(error) == "IDEMPOTENCY_KEY_USED"

  puts "Another user was already thanked for order #{order}"
end
