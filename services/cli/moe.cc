#include "services/cli/moe.h"

#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "services/backbone/proto_conversions.h"
#include "services/cli/client.h"
#include "services/cli/moe_heat_map.h"
#include "services/cli/moe_report.h"
#include "services/common/channel_factory.h"
#include "services/common/stubs.h"

namespace ccoe::cli {
namespace {

struct StatsFlags {
  ClientFlags client;
  int32_t layer = -1;
  int top = 5;
  bool json = false;
  bool reset = false;
  std::string heat_map;
};

absl::StatusOr<engine::MoeSnapshot> FetchSnapshot(const StatsFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto channel,
                        services::ChannelFactory(nullptr).Connect(flags.client.server));
  services::CallPolicy policy;
  policy.deadline = absl::Seconds(flags.client.timeout_seconds);
  v1::GetMoeStatisticsRequest request;
  if (flags.layer >= 0) request.set_layer(flags.layer);
  request.set_co_activation(true);
  request.set_reset(flags.reset);
  CCOE_ASSIGN_OR_RETURN(const v1::MoeStatistics statistics,
                        services::MakeControlStub(channel, policy)->GetMoeStatistics(request));
  return services::MoeSnapshotFromProto(statistics);
}

absl::Status Stats(const StatsFlags& flags) {
  const absl::StatusOr<engine::MoeSnapshot> snapshot = FetchSnapshot(flags);
  if (!snapshot.ok()) {
    return Annotate(snapshot.status(), absl::StrCat("server ", flags.client.server));
  }
  if (snapshot->layers.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("server ", flags.client.server,
                     ": expected a model with mixture-of-experts layers, found one without"));
  }
  if (!flags.heat_map.empty()) {
    CCOE_RETURN_IF_ERROR(WriteFileAtomically(flags.heat_map, {MoeHeatMap(*snapshot)}));
  }
  std::cout << (flags.json ? absl::StrCat(MoeJson(*snapshot), "\n")
                           : MoeTable(*snapshot, flags.top));
  return absl::OkStatus();
}

}  // namespace

void RegisterMoe(CLI::App& app, CommandContext& context) {
  CLI::App* group = AddCommandGroup(app, "moe", "The gates of a running mixture-of-experts model.");
  auto flags = std::make_shared<StatsFlags>();
  CLI::App* command =
      AddCommand(*group, context, "stats",
                 "Shows which experts tokens choose, over all backbone workers since they started.",
                 [flags] { return Stats(*flags); });
  AddClientFlags(command, flags->client);
  AddFlag(command, "--layer", flags->layer, "Only this layer; -1: all.").Range(-1, 1 << 20);
  AddFlag(command, "--top", flags->top, "Hottest experts to list.").Range(0, 1 << 20);
  AddSwitch(command, "--json", flags->json,
            "Print JSON with all counts, as ccoe placement plan --from-stats reads it.");
  AddFlag(command, "--heat-map", flags->heat_map, "Also write layers x experts as an SVG file.");
  AddSwitch(command, "--reset", flags->reset, "Counting starts from zero after this.");
}

}  // namespace ccoe::cli
