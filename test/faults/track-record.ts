/** A bug that these tests have found in the product, and what shows that it is gone. */
export interface FoundBug {
  readonly what: string
  readonly foundBy: string
  readonly reproducedBy: string
}

export const trackRecord: readonly FoundBug[] = [
  {
    what: 'A node that was told its server by the setting `server`, or by the cloud\'s `publicUrl`, never came up: the upgrade went to `/`.',
    foundBy: 'link cut in mid-batch, first round: the only test whose tunnel leads through a proxy',
    reproducedBy: 'test/faults/link.test.ts'
  },
  {
    what: 'An empty, shortened or missing table gave an I/O error that counted as passing: cloudcore did not start, and a lane of the node waited for ever.',
    foundBy: 'damaged cloud log, `empty-table`',
    reproducedBy: 'test/faults/damage.test.ts, rounds `empty-table`, `truncate-table` and `remove-table`'
  },
  {
    what: 'A flipped bit in CURRENT gave an I/O error that counted as passing: cloudcore did not start.',
    foundBy: 'damaged cloud log, `flip-current`',
    reproducedBy: 'packages/store/src/level-store.test.ts; test/faults/damage.test.ts'
  },
  {
    what: 'What could not be read back from the database was not asked for again until something new arrived.',
    foundBy: 'reading the code behind the one above',
    reproducedBy: 'no test of its own'
  },
  {
    what: 'Acknowledged records at the end of a log that was cut or emptied after an orderly stop were missing without a gap record; zeros in the middle of a log hid what stood behind them in their block.',
    foundBy: 'damaged database on the node, `empty-log`',
    reproducedBy: 'packages/store/src/level-seal.test.ts; test/faults/damage.test.ts'
  },
  {
    what: 'A flipped bit in a block of a table made LevelDB abort the process, at this start and at every next one.',
    foundBy: 'damaged cloud log, `flip-table`',
    reproducedBy: 'packages/store/src/level-store.test.ts, damage on which LevelDB aborts the process'
  },
  {
    what: 'While the ballast was written again nobody looked at free space: publishers passed the floor by as much as they could write meanwhile, LevelDB had no room left to sort, and every write failed.',
    foundBy: 'disk of 64 MB, several rounds beside other load',
    reproducedBy: 'packages/store/src/database.test.ts, the floor holds while the ballast is being written'
  },
  {
    what: 'While the database was being opened again, /v1/outbox and the metrics said that nothing waits.',
    foundBy: 'disk of 64 MB, several rounds beside other load',
    reproducedBy: 'packages/store/src/outbox.test.ts, after a failed write the outbox goes on'
  },
  {
    what: 'At the free-space floor LevelDB ran out of space while it sorted, and every write after that failed; giving space back sorted tables in which nothing had been trimmed.',
    foundBy: 'disk of 64 MB, filled by publishers',
    reproducedBy: 'test/system/full-disk.test.ts'
  },
  {
    what: 'Free space was looked at once a second: a fast publisher passed the floor by tens of megabytes.',
    foundBy: 'disk of 64 MB, filled by publishers',
    reproducedBy: 'test/system/full-disk.test.ts'
  },
  {
    what: 'edgecore did not start on a disk that filled up while the start sorted its tables: the ballast was not given up then.',
    foundBy: 'disk of 64 MB, killed and started while full, second round',
    reproducedBy: 'test/system/full-disk.test.ts'
  },
  {
    what: 'Neither side said that no State passes between it and a peer of version 1: objects just did not change any more.',
    foundBy: 'relay that lowers what Hello offers',
    reproducedBy: 'test/faults/state-versions.test.ts; packages/edgecore/src/link/link-state.test.ts'
  },
  {
    what: 'A node whose Devices were damaged kept the twins of these over one start and forgot them at the second one without the cloud.',
    foundBy: 'review, with a scratch test',
    reproducedBy: 'packages/edgecore/src/twins/node-twins.store.test.ts'
  },
  {
    what: 'A step within the deadband that reached the desired value was never sent: InDesiredState stayed False.',
    foundBy: 'review, with a scratch test',
    reproducedBy: 'packages/edgecore/src/twins/twin-reports.test.ts'
  },
  {
    what: 'InDesiredState was True for a desired value that the model had refused, and a moved device stayed Reachable on its old node\'s word.',
    foundBy: 'a fresh user with kubectl wait',
    reproducedBy: 'packages/cloudcore/src/devices/device-controller.test.ts; packages/cloudcore/src/devices/twin-statuses.test.ts'
  },
  {
    what: 'A hybrid clock that forgot a version from the future gave one version to two values; a tombstone came back over a later write.',
    foundBy: 'property test of two replicas, a restored disk and clocks that jump',
    reproducedBy: 'test/sim/mutants/twin-clock-repeats-itself.patch; packages/device-twin/src/desired.property.test.ts'
  },
  {
    what: 'With the cloud\'s clock years behind, a record that was one item behind brought back a desired value whose successor the Device had.',
    foundBy: 'simulation of twins',
    reproducedBy: 'test/sim/mutants/twin-record-behind-believed.patch'
  },
  {
    what: 'A Device that Kubernetes does not let be written kept what the device reported out of the cluster.',
    foundBy: 'review, with a scratch test',
    reproducedBy: 'packages/cloudcore/src/devices/twin-statuses.test.ts'
  },
  {
    what: 'After an outage that ended within a second of a report two messages went up for its twin.',
    foundBy: 'bench row f',
    reproducedBy: 'packages/edgecore/src/twins/twin-reports.test.ts'
  },
  {
    what: 'What a built-in mapper could not tell a device, or read of its availability or of a failed request, stayed a problem when it was over.',
    foundBy: 'review, with scratch tests',
    reproducedBy: 'packages/edgecore/src/mappers/mqtt-protocol.test.ts; packages/edgecore/src/mappers/http-protocol.test.ts'
  },
  {
    what: 'A desired value from a node with a slow clock never came into a Device whose value the model had come to forbid before it was stamped.',
    foundBy: 'simulation of twins',
    reproducedBy: 'packages/device-twin/src/desired.test.ts'
  },
  {
    what: 'A flipped bit in the first byte of an offset\'s key kept edgecore reading the same entry at its start until the memory was full.',
    foundBy: 'simulation',
    reproducedBy: 'packages/store/src/outbox.test.ts'
  },
  {
    what: 'A cloud that was restored from a backup lost the end of a lane that the configuration lacks without a gap record.',
    foundBy: 'simulation',
    reproducedBy: 'packages/store/src/outbox.test.ts'
  }
]
