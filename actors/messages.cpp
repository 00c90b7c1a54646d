#include "actors/messages.h"

#include <caf/all.hpp>

#include "protocol/envelopes.h"

namespace crabcast::actors {
namespace {

const caf::atom_value kCategory = caf::atom("crabcast");

}  // namespace

OutboundPtr outbound(const google::protobuf::Message& body, std::vector<cluster::Frame> frames) {
  auto message = std::make_shared<Outbound>();
  set_body(message->envelope, body);
  message->frames = std::move(frames);
  return message;
}

void answer(const Delivery& request, const google::protobuf::Message& body,
            std::vector<cluster::Frame> frames) {
  if (request.envelope->request() == 0 || !request.sender) return;
  auto message = std::make_shared<Outbound>();
  set_body(message->envelope, body);
  message->envelope.set_answers(request.envelope->request());
  message->frames = std::move(frames);
  caf::anon_send(request.sender, OutboundPtr(std::move(message)));
}

void answer_with(const Delivery& request, pb::Envelope envelope) {
  if (request.envelope->request() == 0 || !request.sender) return;
  auto message = std::make_shared<Outbound>();
  message->envelope = std::move(envelope);
  message->envelope.set_answers(request.envelope->request());
  caf::anon_send(request.sender, OutboundPtr(std::move(message)));
}

void answer(const Delivery& request, const Error& error) {
  answer(request, failure_of(error));
}

caf::error to_caf(const Error& error) {
  return {static_cast<std::uint8_t>(error.code), kCategory, caf::make_message(error.message)};
}

Error from_caf(const caf::error& error) {
  if (error.category() == kCategory) {
    const auto& context = error.context();
    std::string text = context.match_elements<std::string>() ? context.get_as<std::string>(0) : "";
    return {errc_from_number(error.code()), std::move(text)};
  }
  if (error == caf::sec::request_timeout) return {Errc::timeout, "no answer in time"};
  if (error == caf::sec::request_receiver_down ||
      error == caf::exit_reason::remote_link_unreachable)
    return {Errc::unavailable, "the other process is gone"};
  return {Errc::internal, "actor error " + caf::to_string(error)};
}

}  // namespace crabcast::actors
