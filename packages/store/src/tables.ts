/**
 * Table ids: the first byte of every key (docs/storage.md). An id is never given a second meaning; the two daemons have
 * databases of their own.
 */
export const tables = {
  meta: 0x01,
  outboxLane: 0x10,
  outboxEpoch: 0x11,
  outboxBatch: 0x12,
  outboxAcked: 0x13,
  brokerRetained: 0x20,
  brokerSession: 0x21,
  brokerSubscription: 0x22,
  brokerOutgoing: 0x23,
  brokerIncoming: 0x24,
  brokerWill: 0x25,
  brokerQos2Marker: 0x26,
  httpIdempotency: 0x28,
  dmiMapper: 0x29,
  dmiTold: 0x2a,
  objectHead: 0x30,
  objectDown: 0x31,
  objectUp: 0x32,
  objectPosition: 0x33,
  objectNamespace: 0x34,
  twin: 0x38,
  cloudNode: 0x40,
  cloudStream: 0x41,
  cloudEntry: 0x42,
  cloudNodeIndex: 0x43,
  kubeObject: 0x48,
  kubeRevision: 0x49
} as const
