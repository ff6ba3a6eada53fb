/**
 * Bounds of the broker. Those with a name in the configuration are its defaults; the others are fixed. Part of the
 * package's table; docs/limits.md is generated from it.
 */
export const brokerLimits = {
  packetBytes: {
    value: 257 * 1024, unit: 'bytes',
    meaning: 'Longest MQTT packet, its fixed header not counted (mqtt.packetBytesMax).',
    atLimit: 'The connection is closed when the fixed header has been read, before anything is allocated: too-large.'
  },
  connections: {
    value: 2000, unit: 'connections',
    meaning: 'MQTT connections at a time (mqtt.connectionsMax).',
    atLimit: 'One more is closed at once: too-many-connections.'
  },
  webSocketConnections: {
    value: 120, unit: 'connections',
    meaning: 'Connections to the WebSocket port, each with one message of mqtt.packetBytesMax on its way at most; they count as MQTT '
      + 'connections, too.',
    atLimit: 'One more is closed at once.'
  },
  unopenedConnections: {
    value: 500, unit: 'connections',
    meaning: 'Connections that have not sent a whole CONNECT packet.',
    atLimit: 'The oldest of them gives way to a new one: connect-timeout.'
  },
  connectTimeoutMs: {
    value: 10_000, unit: 'ms',
    meaning: 'From the connection to the whole CONNECT packet (mqtt.connectTimeout).',
    atLimit: 'The connection is closed: connect-timeout.'
  },
  packetTimeoutMs: {
    value: 30_000, unit: 'ms',
    meaning: 'From the first byte of a packet to its last.',
    atLimit: 'The connection is closed: packet-timeout.'
  },
  keepaliveMs: {
    value: 20 * 60_000, unit: 'ms',
    meaning: 'Longest keep-alive; a client that asks for more, or for none, is held to this (mqtt.keepaliveMax).',
    atLimit: 'After one and a half times this without a byte the connection is closed: keepalive.'
  },
  pendingBytesPerClient: {
    value: 1024 * 1024, unit: 'bytes',
    meaning: 'Publishes of one client that wait for their commit, 128 bytes of overhead each (mqtt.pendingBytesMaxPerClient).',
    atLimit: 'The socket is not read until half of it is free. What one read brought (64 KiB) is taken beyond the bound.'
  },
  pendingPacketsPerClient: {
    value: 16_384, unit: 'packets',
    meaning: 'Packets of one client that are being handled.',
    atLimit: 'The socket is not read until half of it is free.'
  },
  pendingBytes: {
    value: 32 * 1024 * 1024, unit: 'bytes',
    meaning: 'Publishes of all clients that wait for their commit (mqtt.pendingBytesMax).',
    atLimit: 'Sockets are not read; they go on in the order in which they stopped.'
  },
  incompleteBytes: {
    value: 32 * 1024 * 1024, unit: 'bytes',
    meaning: 'Bytes of packets that have not arrived completely, over all connections.',
    atLimit: 'A connection whose packet has more than 64 KiB of them is closed: incomplete-bytes.'
  },
  fullWaitMs: {
    value: 5000, unit: 'ms',
    meaning: 'How long a publish waits for room in a full lane or on a full disk (mqtt.fullWait).',
    atLimit: 'Its connection is closed without an acknowledgement, since MQTT 3.1.1 knows no refusal: outbox-full.'
  },
  heldBytes: {
    value: 8 * 1024 * 1024, unit: 'bytes',
    meaning: 'Publishes of all clients that wait for room in a full lane; they do not count as pending.',
    atLimit: 'A connection that would have to wait is closed at once: outbox-full.'
  },
  outgoingBytesPerClient: {
    value: 1024 * 1024, unit: 'bytes',
    meaning: 'Bytes on their way to one client that its socket does not take.',
    atLimit: 'A QoS 0 message for it is dropped and counted; at a QoS 1 or 2 message it is closed: slow-subscriber. After '
      + 'five seconds without reaching half of the bound it is closed too.'
  },
  outgoingBytes: {
    value: 64 * 1024 * 1024, unit: 'bytes',
    meaning: 'The same over all clients.',
    atLimit: 'The bound of each client is 64 KiB until there is less.'
  },
  drainTimeoutMs: {
    value: 5000, unit: 'ms',
    meaning: 'How long a client that has reached its outgoing bound may take to come to half of it.',
    atLimit: 'The connection is closed: slow-subscriber.'
  },
  subscriptionsPerClient: {
    value: 100, unit: 'subscriptions',
    meaning: 'Subscriptions of one client (mqtt.subscriptionsMaxPerClient).',
    atLimit: 'One more is answered with failure (0x80).'
  },
  subscriptions: {
    value: 20_000, unit: 'subscriptions',
    meaning: 'Subscriptions of all connected clients.',
    atLimit: 'One more is answered with failure (0x80).'
  },
  topicLength: {
    value: 1024, unit: 'characters',
    meaning: 'Topic of a publish, filter of a subscription.',
    atLimit: 'Publish: the connection is closed (bad-topic). Subscription: failure (0x80).'
  },
  topicLevels: {
    value: 32, unit: 'levels',
    meaning: 'Levels of a topic or filter.',
    atLimit: 'Publish: the connection is closed (bad-topic). Subscription: failure (0x80); beyond 100 levels the connection '
      + 'is closed (protocol).'
  },
  clientIdLength: {
    value: 256, unit: 'characters',
    meaning: 'Client identifier, which also must be free of control characters.',
    atLimit: 'CONNACK 2, and the connection is closed.'
  },
  retainedMessages: {
    value: 10_000, unit: 'messages',
    meaning: 'Retained messages (mqtt.retainedCountMax).',
    atLimit: 'A new topic at QoS 0 is not retained, and counted; at QoS 1 or 2 its connection is closed: retained-full.'
  },
  retainedBytes: {
    value: 16 * 1024 * 1024, unit: 'bytes',
    meaning: 'Topics and payloads of retained messages (mqtt.retainedBytesMax).',
    atLimit: 'As for their number.'
  },
  sessions: {
    value: 1000, unit: 'sessions',
    meaning: 'Persistent sessions, connected or not (mqtt.sessionsMax).',
    atLimit: 'A new one is refused with CONNACK 3.'
  },
  sessionExpiryMs: {
    value: 7 * 86_400_000, unit: 'ms of uptime',
    meaning: 'A persistent session is kept so long without its client (mqtt.sessionExpiry).',
    atLimit: 'It is forgotten with its subscriptions and messages, and counted.'
  },
  offlineMessagesPerClient: {
    value: 1000, unit: 'messages',
    meaning: 'Messages kept for a client that is away or slow to acknowledge (mqtt.offlineQueueCountMax).',
    atLimit: 'The newest are dropped for this client, and counted.'
  },
  offlineBytesPerClient: {
    value: 1024 * 1024, unit: 'bytes',
    meaning: 'Bytes of these (mqtt.offlineQueueBytesMax).',
    atLimit: 'The newest are dropped for this client, and counted.'
  },
  offlineBytes: {
    value: 64 * 1024 * 1024, unit: 'bytes',
    meaning: 'Bytes of these over all clients.',
    atLimit: 'The newest are dropped, and counted.'
  },
  qos2Markers: {
    value: 131_072, unit: 'messages',
    meaning: 'QoS 2 messages of all clients between PUBLISH and PUBREL; the protocol bounds one client to 65,535.',
    atLimit: 'The connection is closed: too-many-qos2.'
  }
} as const
