// Publishes to a topic and sends to a user with peald's control plane.
//
//   PEALCTL_ADDR   the daemon's grpc.addr (127.0.0.1:9090)
//   PEALCTL_TOKEN  a token from control.tokens, if the daemon has any
//
// Usage: build/peald [USER [ORDER]]
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "errors.pb.h"
#include "peal/v1/control.grpc.pb.h"

using peal::v1::ControlService;

// Calls that fail with UNAVAILABLE are retried until their deadline, because it
// isn't known whether they published anything. Idempotency keys make that safe.
constexpr char kRetries[] = R"({"methodConfig": [{
  "name": [{"service": "peal.v1.ControlService"}],
  "retryPolicy": {
    "maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"]
  }
}]})";

// Returns the value of an environment variable, or otherwise if it isn't set.
std::string Env(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value ? value : otherwise;
}

// Returns the context of a call that must end within 10 s.
std::unique_ptr<grpc::ClientContext> NewContext() {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  if (const std::string token = Env("PEALCTL_TOKEN", ""); !token.empty()) {
    context->AddMetadata("authorization", "Bearer " + token);
  }
  return context;
}

// Publishes that the order is paid, and thanks the user.
grpc::Status ReportPaid(ControlService::StubInterface& control, const std::string& user, const std::string& order) {
  peal::v1::PublishRequest paid;
  paid.set_topic("orders." + order);
  paid.set_event("paid");
  paid.set_data("Order " + order + " is paid ☀\n(from C++)");
  paid.set_idempotency_key("cpp-order-" + order + "-paid");

  peal::v1::PublishResponse published;
  if (auto status = control.Publish(NewContext().get(), paid, &published); !status.ok()) return status;
  std::cout << "To orders." << order << ": event " << published.id() << ", queued to " << published.recipients()
            << " streams\n";

  peal::v1::SendToUserRequest thanks;
  thanks.set_user_id(user);
  thanks.set_data("Thank you for order " + order + ", from C++");
  thanks.set_idempotency_key("cpp-order-" + order + "-thanks");

  peal::v1::SendToUserResponse sent;
  if (auto status = control.SendToUser(NewContext().get(), thanks, &sent); !status.ok()) return status;
  std::cout << "To " << user << ": event " << sent.id() << ", queued to " << sent.recipients() << " streams\n";

  return grpc::Status::OK;
}

// Returns the reason of an error, such as "INVALID_FIELD"; empty if it has none.
std::string Reason(const grpc::Status& error) {
  google::rpc::Status status;
  status.ParseFromString(error.error_details());

  google::rpc::ErrorInfo info;
  for (const auto& detail : status.details()) {
    if (detail.UnpackTo(&info)) break;
  }
  return info.reason();
}

int main(int argc, char** argv) {
  const std::string user = argc > 1 ? argv[1] : "alice";
  const std::string order = argc > 2 ? argv[2] : "7";

  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(kRetries);
  const auto control = ControlService::NewStub(grpc::CreateCustomChannel(
      Env("PEALCTL_ADDR", "127.0.0.1:9090"), grpc::InsecureChannelCredentials(), arguments));

  const grpc::Status status = ReportPaid(*control, user, order);
  if (status.ok()) return 0;

  const std::string reason = Reason(status);
  if (reason == "IDEMPOTENCY_KEY_USED") {
    std::cout << "Another user was already thanked for order " << order << "\n";
    return 0;
  }
  std::cerr << "code " << status.error_code() << " (" << reason << "): " << status.error_message() << "\n";
  return 1;
}
