// The job actor: what it does while its store cannot be written, and with damage and pins.
#include <spdlog/spdlog.h>

#include <caf/all.hpp>

#include "actors/control/job_state.h"
#include "actors/control/store_actors.h"

namespace crabcast::actors {
namespace {

// The disk may take it later: full, broken for a moment, or mounted read-only.
bool may_pass(Errc code) {
  return code == Errc::disk_full || code == Errc::io_error || code == Errc::permission_denied ||
         code == Errc::unavailable;
}

}  // namespace

// Members hold the state while it waits, so nothing is lost. The trouble is said once for each
// cause, not at every attempt.
void JobState::write(const PatientWrite& write) {
  if (displaced_by || !write.wanted()) return;
  const auto done = [this, write] {
    if (std::exchange(store_trouble, std::nullopt)) {
      pb::Event event;
      event.set_kind("store_writable");
      event.set_subject(options.launch.job());
      event.set_message(write.what + " could be stored");
      act(RecordEvent{event});
    }
    write.done();
  };
  const auto failed = [this, write](const Error& error) {
    if (!may_pass(error.code) || now() - write.since > kStorePatience || over)
      return write.failed(error);
    if (store_trouble != error.code) {
      store_trouble = error.code;
      pb::Event event;
      event.set_kind("store_unwritable");
      event.set_severity(pb::SEVERITY_ERROR);
      event.set_subject(options.launch.job());
      event.set_message(write.what + " cannot be stored and waits for up to " +
                        std::to_string(kStorePatience.count()) + " s: " + error.message);
      act(RecordEvent{event});
    }
    self->delayed_send(self, kStoreRetryEvery, write);
  };
  write.ask(done, failed);
}

void JobState::damage_found(const storage::VerifyReport& report) {
  pb::Event event;
  event.set_kind("checkpoint_corrupt");
  event.set_severity(pb::SEVERITY_ERROR);
  event.set_subject(std::to_string(report.id.value()));
  const auto more = report.problems.size() - 1;
  event.set_message("the scrub found damage: " + report.problems.front() +
                    (more == 0 ? "" : "; and " + std::to_string(more) + " more"));
  act(RecordEvent{event});
  self->request(ledger, kStoreTimeout, MarkDamaged{report})
      .then([] {},
            [](const caf::error& error) {
              spdlog::warn("the damage was not marked: {}", from_caf(error).message);
            });
}

void JobState::set_pin(const DeliveryPtr& message) {
  const auto& body = message->envelope->pin_checkpoint();
  SetPin set{body.id(), std::nullopt};
  if (body.pinned()) {
    set.pin.emplace();
    set.pin->set_unix_ms(unix_ms_now());
    set.pin->set_note(body.note());
  }
  self->request(ledger, kStoreTimeout, set)
      .then([message] { answer(*message, pb::Done{}); },
            [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

}  // namespace crabcast::actors
