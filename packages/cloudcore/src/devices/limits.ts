/** Bounds of what has to do with Devices in Kubernetes. */
export const deviceLimits = {
  itemBytes: {
    value: 512 * 1024, unit: 'bytes', meaning: 'What a node says of one device, as JSON.',
    atLimit: 'The item is given up and logged; the others go on.'
  },
  embeddedWritesPerSecond: {
    value: 4000, unit: 'writes a second',
    meaning: 'Writes of Devices and DeviceStatuses, of all nodes, to the embedded API: more than it takes, so that it sets the pace.',
    atLimit: 'They wait; nodes take turns.'
  },
  embeddedWritesBurst: {
    value: 4000, unit: 'writes', meaning: 'Such writes at once after a quiet time, to the embedded API.', atLimit: 'The rate above holds.'
  },
  clusterWritesPerSecond: {
    value: 400, unit: 'writes a second', meaning: 'Writes of Devices and DeviceStatuses, of all nodes, to a cluster\'s API.',
    atLimit: 'They wait, newest only; nodes take turns.'
  },
  clusterWritesBurst: {
    value: 1200, unit: 'writes',
    meaning: 'Such writes at once after a quiet time, to a cluster\'s API: a thousand devices that change together.',
    atLimit: 'The rate above holds.'
  },
  writesInFlight: {
    value: 32, unit: 'writes', meaning: 'Writes of Devices and DeviceStatuses that wait for Kubernetes\' answer.',
    atLimit: 'The others wait; nodes take turns.'
  },
  lookDelayMs: {
    value: 2, unit: 'milliseconds',
    meaning: 'From a change until cloudcore looks what a Device is to be now: what nodes and clients are told of the change goes first.',
    atLimit: 'It looks once for all changes meanwhile.'
  },
  looksPerTurn: {
    value: 100, unit: 'Devices', meaning: 'Devices looked at in one turn of the event loop.',
    atLimit: 'The others are looked at lookDelayMs later.'
  },
  conditionDelayMs: {
    value: 200, unit: 'milliseconds',
    meaning: 'What changes nothing but the conditions of a Device is gathered for so long before it is written.',
    atLimit: 'All of it is written with one request.'
  },
  refusedRetryMs: {
    value: 300_000, unit: 'milliseconds', meaning: 'After Kubernetes has refused a write of a Device for good (such as 403 or 422).',
    atLimit: 'It is tried again.'
  },
  troubleLength: {
    value: 1024, unit: 'characters', meaning: 'What a node says of the trouble with one device.', atLimit: 'Cut.'
  },
  conditionNames: {
    value: 3, unit: 'properties', meaning: 'Properties that the message of a condition names.', atLimit: 'It says how many there are.'
  },
  eventIntervalMs: {
    value: 10_000, unit: 'milliseconds', meaning: 'Between two writes of the Event that a device is in one state.',
    atLimit: 'What happens meanwhile is counted and written after it.'
  },
  eventsPerSecond: {
    value: 50, unit: 'events a second', meaning: 'Writes of Events of devices.', atLimit: 'They wait; nodes take turns.'
  },
  eventsBurst: {
    value: 500, unit: 'events', meaning: 'Writes of Events of devices at once after a quiet time.', atLimit: 'The rate above holds.'
  },
  eventsInFlight: {
    value: 4, unit: 'events', meaning: 'Writes of Events of devices that wait for Kubernetes\' answer.', atLimit: 'The others wait.'
  },
  eventsPending: {
    value: 10_000, unit: 'events', meaning: 'Events of devices that are to be written.', atLimit: 'A further one is dropped and counted.'
  },
  eventMs: {
    value: 15_000, unit: 'milliseconds', meaning: 'One go at an Event.', atLimit: 'It is tried again.'
  },
  eventRetryMs: {
    value: 30_000, unit: 'milliseconds', meaning: 'Longest back-off before the write of an Event is tried again.',
    atLimit: 'It is tried again.'
  }
} as const
