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
#include "actors/compute/sample_reader.h"
#include "actors/compute/sampling.h"
#include "actors/compute/tensor_frames.h"
#include "data/batch.h"
#include "data/permutation.h"
#include "model/tokenizer.h"
#include "protocol/fault_points.h"

namespace crabcast::actors {
namespace {

using tick_atom = caf::atom_constant<caf::atom("tick")>;

constexpr std::size_t kQueuedRequests = 1024;

// What the decoding threads share. Const but for the queue.
struct LoaderParts {
  MemberProcess* process = nullptr;
  std::unique_ptr<data::Corpus> corpus;
  std::unique_ptr<SampleReader> reader;
  std::unique_ptr<Sampling> sampling;
  std::map<std::uint32_t, std::uint64_t> train_sizes;  // by data set

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<DeliveryPtr> queue;
  bool stopping = false;
};

// Of an error of data/decode.h: "FILE: STAGE: REASON".
std::string stage_of(const Error& error) {
  if (error.code == Errc::timeout) return "deadline";
  for (const char* stage : {"open", "demux", "decode", "audio", "mask"})
    if (error.message.find(std::string(": ") + stage + ": ") != std::string::npos) return stage;
  return "row";
}

Result<data::Processed> try_sample(const LoaderParts& parts, const data::Draw& draw,
                                   std::uint64_t index, pb::LoaderWork& work) {
  const auto wording = data::mix(parts.process->spec.train.seed, draw.epoch);
  auto sample = parts.corpus->sample(draw.dataset, data::Split::train, index, wording);
  if (!sample) return fail(sample.error());
  return parts.reader->read(*sample, work);
}

void set_sample(pb::SampleRef& ref, std::uint32_t dataset, std::uint64_t index) {
  ref.set_dataset(dataset);
  ref.set_index(index);
}

// The planned sample, or the next one of its data set that is not in quarantine and can be read.
// The walk is the same in every loader as long as whether a file can be read depends on the file
// alone. Where loaders differ, the coordinator has the step made again with what it put in
// quarantine.
Result<data::Processed> read_sample(const LoaderParts& parts, const data::Draw& draw,
                                    pb::BatchReply& reply) {
  const auto size = parts.train_sizes.at(draw.dataset);
  const auto allowed = static_cast<std::uint64_t>(parts.process->spec.failure.bad_samples *
                                                  static_cast<double>(size));
  std::string reason = "is in quarantine";
  std::uint64_t found_bad = 0;
  for (std::uint64_t tries = 0; tries < size && found_bad <= allowed; ++tries) {
    const auto index = (draw.index + tries) % size;
    if (parts.sampling->is_bad(draw.dataset, index, reply.step())) continue;
    auto processed = try_sample(parts, draw, index, *reply.mutable_work());
    if (processed) {
      if (tries > 0) {
        auto& substitution = *reply.add_substitutions();
        set_sample(*substitution.mutable_planned(), draw.dataset, draw.index);
        set_sample(*substitution.mutable_used(), draw.dataset, index);
        substitution.set_reason(reason);
      }
      return processed;
    }
    const auto& error = processed.error();
    if (!is_bad_sample(error)) return fail(error);
    auto& bad = *reply.add_bad();
    set_sample(*bad.mutable_sample(), draw.dataset, index);
    bad.set_stage(stage_of(error));
    bad.set_reason(error.message);
    bad.set_unix_ms(unix_ms_now());
    if (found_bad++ == 0) reason = error.message;
    spdlog::warn("sample {}:{}: {}", data::datasets()[draw.dataset].id, index, error.message);
    parts.process->progress->advance();
  }
  return fail(Errc::data_error, std::string(data::datasets()[draw.dataset].id) + ": " +
                                    std::to_string(found_bad) +
                                    " samples in a row cannot be read, more than "
                                    "failure.bad_samples allows; the first: " +
                                    reason);
}

OutboundPtr make_reply(const LoaderParts& parts, const pb::BatchRequest& request) {
  pb::BatchReply reply;
  reply.set_step(request.step());
  reply.set_lane(request.lane());
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

  if (const Status staged = fault_point("batch.make"); !staged) return refuse(staged.error());
  const auto draws = parts.sampling->sampler()->batch(request.step());
  if (draws.empty()) return refuse({Errc::invalid_argument, "there is no such step"});
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
  const auto batch = data::make_batch(samples, parts.reader->front_end(), data::BatchUse::train);
  reply.mutable_work()->set_tokens(
      static_cast<std::uint64_t>(batch.attention_mask.sum().item<std::int64_t>()));
  reply.mutable_work()->set_cells(static_cast<std::uint64_t>(batch.attention_mask.numel()));
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
  std::deque<DeliveryPtr> early;  // what their steps draw is not known yet

  void enqueue(const DeliveryPtr& request) {
    const bool ready = parts->sampling->ready(request->envelope->batch_request().step());
    bool room = early.size() < kQueuedRequests;
    if (!ready && room) {
      early.push_back(request);
      return;
    }
    if (ready) {
      std::lock_guard lock(parts->mutex);
      room = parts->queue.size() < kQueuedRequests;
      if (room) parts->queue.push_back(request);
    }
    if (room) return parts->changed.notify_one();
    pb::BatchReply refusal;
    refusal.set_step(request->envelope->batch_request().step());
    refusal.set_lane(request->envelope->batch_request().lane());
    *refusal.mutable_failure() =
        failure_of({Errc::queue_full, "this loader has too many requests"});
    caf::anon_send(request->sender, outbound(refusal));
  }

  // Something that batches waited for may be here now.
  void learn(const pb::SamplingHistory& history) {
    if (auto learned = parts->sampling->learn(history); !learned)
      spdlog::error("{}", learned.error().message);
    for (const auto& request : std::exchange(early, {})) enqueue(request);
  }

  pb::RegisterMember registration() const {
    pb::RegisterMember body;
    *body.mutable_corpus() = describe_corpus(*parts->corpus);
    const auto& train = parts->process->spec.train;
    if (train.epochs)
      body.mutable_corpus()->set_steps(parts->sampling->sampler()->steps_for_epochs(*train.epochs));
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
        if (message->envelope->has_sampling_history())
          return state.learn(message->envelope->sampling_history());
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
  auto corpus = open_corpus(process);
  if (!corpus) return fail(corpus.error());
  parts->corpus = std::move(*corpus);
  auto marks = data::MediaMarks::open(parts->corpus->folder(), process.launch.index_dir());
  if (!marks) return fail(marks.error());
  // One child for each decoding thread.
  auto reader =
      SampleReader::open(process, std::move(*front_end), process.threads(), std::move(*marks));
  if (!reader) return fail(reader.error());
  parts->reader = std::move(*reader);
  for (const auto& summary : parts->corpus->summary())
    parts->train_sizes[summary.dataset] = summary.train;
  auto sampling = Sampling::create(process.spec, *parts->corpus);
  if (!sampling) return fail(sampling.error());
  parts->sampling = std::move(*sampling);
  return parts;
}

}  // namespace

int run_loader(caf::actor_system& system, MemberProcess& process) {
  process.progress->begin("open the corpus", 0);
  auto parts = [&] {
    const Preparation preparation(system, process);
    return make_parts(process);
  }();
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
