// The report of a job: what its store says about losses, scores, checkpoints, speed and time.
//
// Its JSON (crabcast report JOB --json; numbers are null where there is nothing to compute them
// from):
//   job, state, reason   of the last run's end; absent when no run of it has ended
//   steps                {committed, skipped, window}: steps in the ledger, those whose update was
//                        not applied, and the number of steps that "first" and "last" are means of
//                        (a tenth of all, at least 1)
//   samples              in the ledger, skipped steps included
//   replaced_samples     slots whose planned sample could not be read
//   quarantined_samples  different samples that could not be read (crabcast quarantine)
//   wall_seconds         sum of the steps' wall seconds: the start of each run is part of its first
//                        step; the time between runs is not
//   samples_per_second   samples / wall_seconds
//   steady_samples_per_second
//                        the same without the first step of each generation, which has the start
//                        or the repair in it
//   loss                 {first, last, change_percent} over all tasks, for each answer token;
//                        skipped steps do not count
//   tasks                [{task, first_loss, last_loss, change_percent, samples, tokens}]
//   stages               [{stage, seconds, share}] for data, forward, backward, reduce, commit,
//                        optimizer: mean over the members, without the first step of each
//                        generation; shares add up to 1
//   loader               {samples, cached_share, padding_left_out, waited_share, batches_at_hand,
//                        stages: [{stage, seconds, share}]}: what was decoded for committed steps.
//                        waited_share: of the batches, those that a worker had to wait for;
//                        batches_at_hand: that had come when it took one, on average.
//                        padding_left_out: the part of a batch that would be padding if samples
//                        were padded to the longest of their lane; none is computed. stages:
//                        processor seconds of demux, decode, scale, audio, log_mel, patches
//   evaluations          [{checkpoint, unix_ms, mean, seconds, scores: [{task, metric, score,
//                        samples, details}], examples: [{task, question, truth, answer,
//                        score}]}], oldest first. details: unreadable; and on the same samples,
//                        untrained: what the adapter scored before its first step, constant: what
//                        the one answer scores that is best on the training split
//   checkpoints          [{id, step, generation, unix_ms, bytes, chunks, metrics}], or {id,
//   problem}
//                        for one whose manifest is damaged
//   incidents            [{seq, unix_ms, severity, kind, job, subject, message, step, generation,
//                        incident: {culprit, last_operation, evidence, detect_seconds,
//                        decide_seconds, reform_seconds, load_seconds, redo_seconds}}]
//   events               {info, warning, error}: how many
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "protocol/error.h"
#include "protocol/records.pb.h"
#include "storage/job_store.h"

namespace crabcast::apps {

// Reads the whole ledger once. corrupt when a record of it is damaged.
Result<nlohmann::json> job_report(const storage::JobStore& store);
// The same for people: tables of plain text.
std::string report_text(const nlohmann::json& report);

}  // namespace crabcast::apps
