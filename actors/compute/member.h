// What every member process of a job has: its launch file, its spec, its two switchboards, and the
// link to the coordinator.
#pragma once

#include <atomic>
#include <caf/actor_system.hpp>
#include <caf/event_based_actor.hpp>
#include <functional>
#include <memory>
#include <string>

#include "actors/compute/progress.h"
#include "actors/messages.h"
#include "actors/switchboard.h"
#include "protocol/job_spec.h"

namespace crabcast::actors {

// Exit codes of member processes, on top of those of a signal.
inline constexpr int kMemberDone = 0;
inline constexpr int kMemberFailed = 1;  // a fault was reported, or the coordinator is gone

class MemberProcess {
 public:
  // Reads the launch file and spec, opens both switchboards, connects to the coordinator.
  static Result<std::unique_ptr<MemberProcess>> open(caf::actor_system& system,
                                                     const std::string& launch_file);

  pb::RoleLaunch launch;
  JobSpec spec;
  std::unique_ptr<Switchboard> control, bulk;
  std::string bulk_endpoint;
  cluster::Keyring keys;
  std::shared_ptr<Progress> progress = std::make_shared<Progress>();
  std::atomic<bool> told_to_go = false;  // by SIGTERM: it works on until the coordinator lets it go
  cluster::PeerInfo coordinator, coordinator_bulk;

  [[nodiscard]] const std::string& role() const { return launch.slot().role(); }
  // Compute threads that the spec gives this process.
  [[nodiscard]] int threads() const;
  // Where the spec's base is on this node: a shipped base's name, or a folder.
  [[nodiscard]] Result<std::string> base() const;
  // Tells the coordinator that this member cannot work and that no retry helps; waits for the
  // answer, a few seconds at most.
  void report_fatal(caf::actor_system& system, const std::string& operation, const Error& error);

 private:
  MemberProcess() = default;
};

// While a member gets ready: tells the coordinator every half second what it does, so that one that
// gets on is given the time which that takes. Ends with the object, before the member registers.
class Preparation {
 public:
  Preparation(caf::actor_system& system, MemberProcess& process);
  ~Preparation();
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

 private:
  caf::actor actor_;
};

// The member's half of the link to the coordinator: registers, reports progress, and when the
// coordinator is gone tries to reach it again for kCoordinatorGrace. Embedded in a member's actor.
class CoordinatorLink {
 public:
  static constexpr auto kCoordinatorGrace = std::chrono::seconds(60);
  static constexpr auto kProgressEvery = std::chrono::milliseconds(500);

  CoordinatorLink(caf::event_based_actor* self, MemberProcess* process)
      : self_(self), process_(process) {}

  // Connects with the peer of MemberProcess::open; `registration` is sent now and after each loss.
  // Without one only what `send` is given.
  void start(std::function<pb::RegisterMember()> registration = {});
  void send(const google::protobuf::Message& body);
  void send_message(const OutboundPtr& message);
  void report_progress(std::size_t mailbox);
  // From the actor's down handler and its handler of Connected. `lost` is set when the grace ran
  // out.
  void on_down(const caf::down_msg& message);
  void on_connected(const Connected& result);
  [[nodiscard]] bool lost() const { return lost_; }

 private:
  void attach(const cluster::PeerInfo& peer);

  caf::event_based_actor* self_;
  MemberProcess* process_;
  std::function<pb::RegisterMember()> registration_;
  caf::actor coordinator_;
  TimePoint gone_since_{};
  bool drain_reported_ = false;
  bool lost_ = false;
};

}  // namespace crabcast::actors
