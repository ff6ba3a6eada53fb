/** Bounds of edgecore as a client of another broker (L8), beside `mqtt.pendingBytesMaxPerClient` and `mqtt.packetBytesMax`. */
export const externalBrokerLimits = {
  externalConnectTimeoutMs: {
    value: 10_000, unit: 'ms', meaning: 'From dialling the external broker to its CONNACK.',
    atLimit: 'The attempt ends, and counts as failed.'
  },
  externalKeepaliveMs: {
    value: 30_000, unit: 'ms', meaning: 'Silence after which the external broker is asked for a sign of life.',
    atLimit: 'After half as long without one the connection ends, and is made anew.'
  },
  externalRetryMs: {
    value: 30_000, unit: 'ms', meaning: 'Longest pause between attempts to reach the external broker.',
    atLimit: 'Tried again, with jitter.'
  },
  externalFilters: {
    value: 100, unit: 'filters', meaning: 'Topic filters in one SUBSCRIBE to the external broker.',
    atLimit: 'The rest goes into the next one.'
  },
  externalOutgoingBytes: {
    value: 1024 * 1024, unit: 'bytes', meaning: 'Messages of the daemon that the external broker has not taken yet.',
    atLimit: 'Further ones are dropped, and counted.'
  },
  externalOutgoingMessages: {
    value: 1000, unit: 'messages', meaning: 'QoS 1 messages of the daemon that the external broker has not acknowledged.',
    atLimit: 'Further ones are dropped, and counted.'
  },
  externalStopMs: {
    value: 5000, unit: 'ms', meaning: 'How long acknowledgements may take when edgecore stops.',
    atLimit: 'The connection ends without them; the broker sends these messages again.'
  }
} as const
