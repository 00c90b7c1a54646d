// The loader process: samples to packed batches, on request. It keeps no state: any loader can make
// the batch of any (step, lane), and makes the same one.
#include <ATen/Parallel.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <caf/all.hpp>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "actors/compute/corpus_access.h"
#include "actors/compute/roles.h"
#include "actors/compute/tensor_frames.h"
#include "data/batch.h"
#include "data/decode_pool.h"
#include "data/sampler.h"
#include "model/tokenizer.h"

namespace crabcast::actors {
namespace {

using tick_atom = caf::atom_constant<caf::atom("tick")>;

constexpr auto kSampleDeadline = std::chrono::seconds(20);
constexpr int kSubstitutes = 16;  // bad neighbours in a row before a batch is given up
constexpr std::size_t kQueuedRequests = 1024;

// What the decoding threads share. Const but for the queue.
struct LoaderParts {
  MemberProcess* process = nullptr;
  std::unique_ptr<data::Corpus> corpus;
  model::BaseFrontEnd front_end;
  std::optional<data::Sampler> sampler;
  std::map<std::uint32_t, std::uint64_t> train_sizes;  // by data set
  std::unique_ptr<data::DecodePool> pool;              // one child for each decoding thread

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<DeliveryPtr> queue;
  bool stopping = false;
};

// The planned sample, or the next readable one of its data set. The walk is the same in every
// loader, because whether a file can be read depends on the file alone.
Result<data::Processed> read_sample(const LoaderParts& parts, const data::Draw& draw,
                                    pb::BatchReply& reply) {
  const auto size = parts.train_sizes.at(draw.dataset);
  std::string reason;
  for (int tries = 0; tries <= kSubstitutes; ++tries) {
    const auto index = (draw.index + static_cast<std::uint64_t>(tries)) % size;
    auto sample = parts.corpus->sample(draw.dataset, data::Split::train, index);
    if (!sample) return fail(sample.error());
    auto processed = data::process_sample(*sample, parts.front_end, *parts.pool, kSampleDeadline);
    if (processed) {
      if (tries > 0) {
        auto& substitution = *reply.add_substitutions();
        substitution.mutable_planned()->set_dataset(draw.dataset);
        substitution.mutable_planned()->set_index(draw.index);
        substitution.mutable_used()->set_dataset(draw.dataset);
        substitution.mutable_used()->set_index(index);
        substitution.set_reason(reason);
      }
      return processed;
    }
    // Whatever else goes wrong is not the sample's fault: the next one would fare no better.
    const auto code = processed.error().code;
    if (code != Errc::data_error && code != Errc::timeout) return processed;
    if (tries == 0) reason = processed.error().message;
    spdlog::warn("sample {}:{}: {}", data::datasets()[draw.dataset].id, index,
                 processed.error().message);
  }
  return fail(Errc::data_error, std::string(data::datasets()[draw.dataset].id) + ": " +
                                    std::to_string(kSubstitutes) +
                                    " samples in a row cannot be read; the first: " + reason);
}

OutboundPtr make_reply(const LoaderParts& parts, const pb::BatchRequest& request) {
  pb::BatchReply reply;
  reply.set_step(request.step());
  reply.set_lane(request.lane());
  const auto started = Clock::now();
  const auto refuse = [&](const Error& error) {
    pb::BatchReply refusal;
    refusal.set_step(request.step());
    refusal.set_lane(request.lane());
    *refusal.mutable_failure() = failure_of(error);
    return outbound(refusal);
  };
  const auto& train = parts.process->spec.train;
  if (request.step() == 0 || request.lane() >= train.lanes)
    return refuse({Errc::invalid_argument, "there is no such step or lane"});

  const auto draws = parts.sampler->batch(request.step());
  std::vector<data::Processed> samples;
  for (std::uint32_t i = 0; i < train.samples_per_lane; ++i) {
    const auto& draw = draws[request.lane() * train.samples_per_lane + i];
    auto processed = read_sample(parts, draw, reply);
    if (!processed) return refuse(processed.error());
    auto& ref = *reply.add_samples();
    ref.set_dataset(processed->sample.dataset);
    ref.set_index(processed->sample.index);
    reply.add_tasks(std::string(task_name(processed->sample.task)));
    samples.push_back(std::move(*processed));
    parts.process->progress->advance();
  }
  const auto batch = data::make_batch(samples, parts.front_end, data::BatchUse::train);
  std::vector<cluster::Frame> frames;
  const auto add = [&](const char* name, const at::Tensor& tensor) {
    const auto whole = tensor.contiguous();
    *reply.add_tensors() = describe(name, whole);
    frames.push_back(to_frame(whole));
  };
  add("input_ids", batch.input_ids);
  add("attention_mask", batch.attention_mask);
  add("labels", batch.labels);
  add("pixel_values", batch.pixel_values);
  add("grid_thw", batch.grid_thw);
  add("seconds_per_grid", batch.seconds_per_grid);
  add("audio_features", batch.audio_features);
  add("audio_lengths", batch.audio_lengths);
  reply.set_decode_seconds(seconds(Clock::now() - started));
  return outbound(reply, std::move(frames));
}

void decode_loop(const std::shared_ptr<LoaderParts>& parts) {
  // The number belongs to the calling thread. One: the last bit of a product may depend on it, and
  // a batch must be the same on every node (S-1).
  at::set_num_threads(1);
  while (true) {
    DeliveryPtr request;
    {
      std::unique_lock lock(parts->mutex);
      parts->changed.wait(lock, [&] { return parts->stopping || !parts->queue.empty(); });
      if (parts->stopping) return;
      request = std::move(parts->queue.front());
      parts->queue.pop_front();
    }
    const auto& body = request->envelope->batch_request();
    parts->process->progress->begin("batch of lane " + std::to_string(body.lane()), body.step());
    OutboundPtr reply;
    try {
      reply = make_reply(*parts, body);
    } catch (const std::exception& error) {  // LibTorch throws; a batch is no reason to die
      pb::BatchReply refusal;
      refusal.set_step(body.step());
      refusal.set_lane(body.lane());
      *refusal.mutable_failure() = failure_of({Errc::internal, error.what()});
      reply = outbound(refusal);
    }
    caf::anon_send(request->sender, reply);
    parts->process->progress->begin("wait for requests", 0);
  }
}

struct LoaderState {
  static inline const char* name = "loader";
  std::shared_ptr<LoaderParts> parts;
  std::unique_ptr<CoordinatorLink> link;

  void enqueue(const DeliveryPtr& request) {
    {
      std::lock_guard lock(parts->mutex);
      if (parts->queue.size() >= kQueuedRequests) {
        pb::BatchReply refusal;
        refusal.set_step(request->envelope->batch_request().step());
        refusal.set_lane(request->envelope->batch_request().lane());
        *refusal.mutable_failure() =
            failure_of({Errc::queue_full, "this loader has too many requests"});
        caf::anon_send(request->sender, outbound(refusal));
        return;
      }
      parts->queue.push_back(request);
    }
    parts->changed.notify_one();
  }

  pb::RegisterMember registration() const {
    pb::RegisterMember body;
    *body.mutable_corpus() = describe_corpus(*parts->corpus);
    const auto& train = parts->process->spec.train;
    if (train.epochs)
      body.mutable_corpus()->set_steps(parts->sampler->steps_for_epochs(*train.epochs));
    return body;
  }
};

caf::behavior loader(caf::stateful_actor<LoaderState>* self,
                     const std::shared_ptr<LoaderParts>& parts) {
  auto& state = self->state;
  auto me = caf::actor_cast<caf::actor>(self);
  state.parts = parts;
  parts->process->control->publish("member", me);
  parts->process->bulk->publish("loader", me);
  state.link = std::make_unique<CoordinatorLink>(self, parts->process);
  self->set_down_handler([&state](const caf::down_msg& down) { state.link->on_down(down); });
  state.link->start([&state] { return state.registration(); });
  self->delayed_send(self, CoordinatorLink::kProgressEvery, tick_atom::value);
  return {
      [self, &state](const DeliveryPtr& message) {
        if (message->envelope->has_batch_request()) return state.enqueue(message);
        if (message->envelope->has_leave_job()) self->quit(caf::exit_reason::normal);
      },
      [self, &state](const Connected& result) {
        state.link->on_connected(result);
        if (state.link->lost()) self->quit(caf::exit_reason::remote_link_unreachable);
      },
      [self, &state](tick_atom) {
        self->delayed_send(self, CoordinatorLink::kProgressEvery, tick_atom::value);
        std::size_t waiting = 0;
        {
          std::lock_guard lock(state.parts->mutex);
          waiting = state.parts->queue.size();
        }
        state.link->report_progress(waiting);
      },
  };
}

Result<std::shared_ptr<LoaderParts>> make_parts(MemberProcess& process) {
  auto parts = std::make_shared<LoaderParts>();
  parts->process = &process;
  auto base = process.base();
  if (!base) return fail(base.error());
  auto front_end = model::load_front_end(*base);
  if (!front_end) return fail(front_end.error());
  parts->front_end = std::move(*front_end);
  auto corpus = open_corpus(process);
  if (!corpus) return fail(corpus.error());
  parts->corpus = std::move(*corpus);
  data::SamplerPlan plan;
  plan.policy = process.spec.data.mixture;
  plan.seed = process.spec.train.seed;
  plan.global_batch = process.spec.global_batch();
  for (const auto& summary : parts->corpus->summary()) {
    if (summary.train == 0) continue;
    plan.sources.push_back(
        {summary.dataset, data::datasets()[summary.dataset].task, summary.train});
    parts->train_sizes[summary.dataset] = summary.train;
  }
  auto sampler = data::Sampler::create(std::move(plan));
  if (!sampler) return fail(sampler.error());
  parts->sampler = std::move(*sampler);
  data::DecodePoolOptions decoding;
  decoding.children = process.threads();
  auto pool = data::DecodePool::start(decoding);
  if (!pool) return fail(pool.error());
  parts->pool = std::move(*pool);
  return parts;
}

}  // namespace

int run_loader(caf::actor_system& system, MemberProcess& process) {
  process.progress->begin("open the corpus", 0);
  auto parts = make_parts(process);
  if (!parts) {
    process.report_fatal(system, "open the corpus", parts.error());
    return kMemberFailed;
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < process.threads(); ++i) threads.emplace_back(decode_loop, *parts);
  caf::scoped_actor self{system};
  auto actor = system.spawn(loader, *parts);
  self->monitor(actor);
  actor = nullptr;
  int code = kMemberDone;
  self->receive([&](const caf::down_msg& down) {
    if (down.reason != caf::exit_reason::normal) code = kMemberFailed;
  });
  {
    std::lock_guard lock((*parts)->mutex);
    (*parts)->stopping = true;
  }
  (*parts)->changed.notify_all();
  for (auto& thread : threads) thread.join();
  return code;
}

}  // namespace crabcast::actors
