#include "actors/control/gateway/ask.h"

#include <caf/all.hpp>

#include "actors/messages.h"
#include "protocol/envelopes.h"

namespace crabcast::gateway {
namespace {

class ActorAsk final : public Ask {
 public:
  ActorAsk(caf::actor_system& system, caf::actor controller)
      : system_(system), controller_(std::move(controller)) {}
  Result<Answer> ask(const google::protobuf::Message& body, Duration timeout) override;

 private:
  caf::actor_system& system_;
  const caf::actor controller_;
};

Result<Answer> ActorAsk::ask(const google::protobuf::Message& body, Duration timeout) {
  caf::scoped_actor self{system_, true};  // hidden: it does not keep the system
  auto envelope = std::make_shared<pb::Envelope>();
  envelope->set_protocol(kProtocolVersion);
  envelope->set_from("gateway");
  envelope->set_to("controller");
  envelope->set_request(1);  // the only one of this actor
  set_body(*envelope, body);
  auto request = std::make_shared<actors::Delivery>();
  request->from.process = ProcessId{"gateway"};
  request->envelope = std::move(envelope);
  request->sender = caf::actor_cast<caf::actor>(self.address());
  self->monitor(controller_);
  self->send(controller_, actors::DeliveryPtr(std::move(request)));
  Result<Answer> result = fail(Errc::internal, "no answer was read");
  self->receive(
      [&](const actors::OutboundPtr& answer) {
        if (answer->envelope.has_failure())
          result = fail(actors::error_of(answer->envelope.failure()));
        else
          result = Answer(answer, &answer->envelope);
      },
      [&](const caf::down_msg&) { result = fail(Errc::unavailable, "the controller has ended"); },
      caf::after(timeout) >>
          [&] {
            result = fail(Errc::timeout, "the controller gave no answer in time; try again");
          });
  return result;
}

}  // namespace

std::unique_ptr<Ask> ask_actor(caf::actor_system& system, const caf::actor& controller) {
  return std::make_unique<ActorAsk>(system, controller);
}

}  // namespace crabcast::gateway
