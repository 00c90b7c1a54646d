#include "actors/compute/batch_client.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>
#include <condition_variable>
#include <map>
#include <mutex>

#include "actors/compute/tensor_frames.h"

namespace crabcast::actors {

using BatchKey = std::pair<std::uint64_t, std::uint32_t>;  // (step, lane)
using LoaderList = std::shared_ptr<const std::vector<pb::LoaderEntry>>;

struct WantBatch {
  BatchKey key;
};

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::WantBatch)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::LoaderList)

namespace crabcast::actors {
namespace {

constexpr auto kConnectTimeout = std::chrono::seconds(5);
constexpr auto kReconnectEvery = std::chrono::milliseconds(200);
constexpr auto kPoll = std::chrono::milliseconds(50);

}  // namespace

struct BatchClient::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<BatchKey, DeliveryPtr> slots;  // null: asked for, not here
  BatchBudget budget;
  std::size_t here = 0;
  std::uint64_t bytes_here = 0;

  explicit Shared(const BatchBudget& b) : budget(b) {}
  void put(DeliveryPtr& slot, const DeliveryPtr& delivery);
  DeliveryPtr take(std::map<BatchKey, DeliveryPtr>::iterator slot);
};

namespace {

std::uint64_t frame_bytes(const DeliveryPtr& delivery) {
  std::uint64_t bytes = 0;
  for (const auto& frame : delivery->frames) bytes += frame.size();
  return bytes;
}

}  // namespace

void BatchClient::Shared::put(DeliveryPtr& slot, const DeliveryPtr& delivery) {
  if (slot) return;  // two loaders made it
  slot = delivery;
  ++here;
  bytes_here += frame_bytes(delivery);
  budget.came(frame_bytes(delivery));
}

DeliveryPtr BatchClient::Shared::take(std::map<BatchKey, DeliveryPtr>::iterator slot) {
  DeliveryPtr delivery = std::move(slot->second);
  slots.erase(slot);
  if (!delivery) return delivery;
  --here;
  bytes_here -= frame_bytes(delivery);
  return delivery;
}

// Sends requests to loaders and files their answers.
class BatchActor : public caf::event_based_actor {
 public:
  BatchActor(caf::actor_config& config, std::shared_ptr<BatchClient::Shared> shared,
             Switchboard* bulk)
      : caf::event_based_actor(config), shared_(std::move(shared)), bulk_(bulk) {}

  const char* name() const override { return "batches"; }

  caf::behavior make_behavior() override {
    set_down_handler([this](const caf::down_msg& message) { lost(message.source); });
    return {
        [this](const WantBatch& want) { ask(want.key); },
        [this](const LoaderList& loaders) { update(*loaders); },
        [this](const DeliveryPtr& message) { file(message); },
        [this](const Connected& result) { connected(result); },
    };
  }

 private:
  struct Loader {
    caf::actor handle;  // null while it is not connected
    bool listed = true;
  };

  void update(const std::vector<pb::LoaderEntry>& entries) {
    for (auto& [endpoint, loader] : loaders_) loader.listed = false;
    for (const auto& entry : entries) {
      auto [it, fresh] = loaders_.try_emplace(entry.bulk_endpoint());
      it->second.listed = true;
      if (fresh) bulk_->connect_async(entry.bulk_endpoint(), kConnectTimeout, self());
    }
    std::erase_if(loaders_, [](const auto& e) { return !e.second.listed && !e.second.handle; });
  }

  void connected(const Connected& result) {
    auto found = loaders_.find(result.endpoint);
    if (found == loaders_.end() || found->second.handle) return;
    if (!result.peer) {
      bulk_->connect_async(result.endpoint, kConnectTimeout, self());
    } else if (result.peer->has_value()) {
      found->second.handle = bulk_->proxy((*result.peer)->process, "loader");
      monitor(found->second.handle);
      for (const auto& key : unanswered())
        if (!asked_.contains(key)) ask(key);
    } else if (found->second.listed) {
      delayed_send(this, kReconnectEvery, Connected{result.endpoint, nullptr});
    } else {
      loaders_.erase(found);
    }
  }

  void ask(const BatchKey& key) {
    std::vector<const caf::actor*> here;
    for (const auto& [endpoint, loader] : loaders_)
      if (loader.handle) here.push_back(&loader.handle);
    if (here.empty()) return;  // asked when a loader connects
    const auto& loader = *here[(key.first + key.second) % here.size()];
    pb::BatchRequest request;
    request.set_step(key.first);
    request.set_lane(key.second);
    asked_[key] = loader.address();
    send(loader, outbound(request));
  }

  void file(const DeliveryPtr& message) {
    if (!message->envelope->has_batch_reply()) return;
    const auto& reply = message->envelope->batch_reply();
    const BatchKey key{reply.step(), reply.lane()};
    asked_.erase(key);
    {
      std::lock_guard lock(shared_->mutex);
      auto found = shared_->slots.find(key);
      if (found == shared_->slots.end()) return;  // not wanted any more
      shared_->put(found->second, message);
    }
    shared_->changed.notify_all();
  }

  void lost(const caf::actor_addr& source) {
    for (auto it = loaders_.begin(); it != loaders_.end(); ++it) {
      if (!it->second.handle || it->second.handle.address() != source) continue;
      spdlog::warn("loader at {} is gone", it->first);
      it->second.handle = nullptr;
      // A new process has a new endpoint, but a broken connection heals.
      delayed_send(this, kReconnectEvery, Connected{it->first, nullptr});
      break;
    }
    std::erase_if(asked_, [&](const auto& entry) { return entry.second == source; });
    for (const auto& key : unanswered())
      if (!asked_.contains(key)) ask(key);
  }

  std::vector<BatchKey> unanswered() {
    std::lock_guard lock(shared_->mutex);
    std::vector<BatchKey> keys;
    for (const auto& [key, delivery] : shared_->slots)
      if (!delivery) keys.push_back(key);
    return keys;
  }

  caf::actor self() { return caf::actor_cast<caf::actor>(this); }

  std::shared_ptr<BatchClient::Shared> shared_;
  Switchboard* bulk_;
  std::map<std::string, Loader> loaders_;  // by endpoint
  std::map<BatchKey, caf::actor_addr> asked_;
};

BatchClient::BatchClient(caf::actor_system& system, MemberProcess& process,
                         const BatchBudget& budget)
    : shared_(std::make_shared<Shared>(budget)) {
  actor_ = system.spawn<BatchActor>(shared_, process.bulk.get());
  process.bulk->publish("batches", actor_);
}

BatchClient::~BatchClient() {
  caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown);
}

void BatchClient::set_loaders(std::vector<pb::LoaderEntry> loaders) {
  caf::anon_send(
      actor_, LoaderList(std::make_shared<const std::vector<pb::LoaderEntry>>(std::move(loaders))));
}

bool BatchClient::want(std::uint64_t step, std::uint32_t lane) {
  {
    std::lock_guard lock(shared_->mutex);
    if (shared_->slots.contains({step, lane})) return true;
    const std::size_t coming = shared_->slots.size() - shared_->here;
    if (!shared_->budget.has_room(shared_->here, shared_->bytes_here, coming)) return false;
    shared_->slots.emplace(BatchKey{step, lane}, nullptr);
  }
  caf::anon_send(actor_, WantBatch{{step, lane}});
  return true;
}

Result<ReceivedBatch> BatchClient::get(std::uint64_t step, std::uint32_t lane, Duration timeout,
                                       const std::function<bool()>& give_up) {
  const BatchKey key{step, lane};
  DeliveryPtr delivery;
  std::uint64_t at_hand = 0;
  bool waited = false;
  {
    std::unique_lock lock(shared_->mutex);
    if (shared_->slots.emplace(key, nullptr).second) caf::anon_send(actor_, WantBatch{key});
    at_hand = shared_->here;
    for (const auto deadline = Clock::now() + timeout;; waited = true) {
      auto found = shared_->slots.find(key);
      if (found->second) {
        delivery = shared_->take(found);
        break;
      }
      if (give_up()) return fail(Errc::cancelled, "a newer generation is there");
      if (Clock::now() >= deadline)
        return fail(Errc::timeout, "no loader sent the batch of step " + std::to_string(step) +
                                       ", lane " + std::to_string(lane));
      shared_->changed.wait_for(lock, kPoll);
    }
  }
  const auto& reply = delivery->envelope->batch_reply();
  if (reply.has_failure()) return fail(error_of(reply.failure()));
  auto tensors = from_frames(reply.tensors(), delivery->frames);
  if (!tensors) return fail(tensors.error().within("batch"));
  ReceivedBatch batch;
  batch.samples = {reply.samples().begin(), reply.samples().end()};
  batch.tasks = {reply.tasks().begin(), reply.tasks().end()};
  batch.substitutions = {reply.substitutions().begin(), reply.substitutions().end()};
  batch.work = reply.work();
  batch.work.set_batches(1);
  batch.work.set_waited_for(waited ? 1 : 0);
  batch.work.set_at_hand(at_hand);
  batch.bad = {reply.bad().begin(), reply.bad().end()};
  auto& input = batch.input;
  const std::map<std::string, at::Tensor*> fields = {{"input_ids", &input.input_ids},
                                                     {"attention_mask", &input.attention_mask},
                                                     {"labels", &input.labels},
                                                     {"pixel_values", &input.pixel_values},
                                                     {"grid_thw", &input.grid_thw},
                                                     {"seconds_per_grid", &input.seconds_per_grid},
                                                     {"audio_features", &input.audio_features},
                                                     {"audio_lengths", &input.audio_lengths}};
  for (auto& [name, tensor] : *tensors) {
    auto field = fields.find(name);
    if (field == fields.end())
      return fail(Errc::corrupt, "a batch holds an unknown tensor " + name);
    *field->second = std::move(tensor);
  }
  return batch;
}

void BatchClient::keep_only(std::uint32_t first_lane, std::uint32_t lanes,
                            std::uint64_t from_step) {
  std::lock_guard lock(shared_->mutex);
  for (auto slot = shared_->slots.begin(); slot != shared_->slots.end();) {
    const auto [step, lane] = slot->first;
    const auto next = std::next(slot);
    if (step < from_step || lane < first_lane || lane >= first_lane + lanes)
      (void)shared_->take(slot);
    slot = next;
  }
}

void BatchClient::wake() {
  shared_->changed.notify_all();
}

}  // namespace crabcast::actors
