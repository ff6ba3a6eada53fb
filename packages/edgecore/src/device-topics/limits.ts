/** Bounds of KubeEdge's device topics (law L8). Those of a twin are the device-twin package's. */
export const deviceTopicsLimits = {
  documentBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'A message on a topic of a device or of the node.',
    atLimit: 'It is answered with 400.'
  },
  eventIdCharacters: {
    value: 256, unit: 'characters', meaning: 'The event_id of a message.',
    atLimit: 'The message is answered with 400, without it.'
  },
  devicesPerMessage: {
    value: 500, unit: 'devices', meaning: 'Devices in one membership message.',
    atLimit: 'The others come in further messages; those of an answer say which part of how many they are.'
  },
  membershipBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'The devices of one membership message, where that is more than one.',
    atLimit: 'As for their number.'
  },
  getsWaiting: {
    value: 1024, unit: 'requests', meaning: 'Requests for twins that wait for what was written to their devices before them.',
    atLimit: 'A further one is answered at once, with what is durable by then.'
  },
  deltasPerTurn: {
    value: 100, unit: 'devices', meaning: 'Devices told their delta, or looked at for a subscriber, in one turn of the event loop.',
    atLimit: 'The others are told in the next turns.'
  },
  wideSubscribers: {
    value: 64, unit: 'subscriptions',
    meaning: 'Subscriptions with wildcards over devices whose subscribers are being told the deltas that there are.',
    atLimit: 'The subscriber of a further one is told with the next repetition.'
  }
} as const
