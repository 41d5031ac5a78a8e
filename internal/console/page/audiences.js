// The audiences of messages, and the REST paths of what concerns them.

// isPattern reports whether a topic has wildcards.
export const isPattern = (topic) => topic.split(".").some((token) => token === "*" || token === ">");

const part = encodeURIComponent;

// Each audience has the default type of its events (type), the path of its messages
// and of its retained values, and a function that describes it. Users and topics have
// names: label describes the name, and field is the API's name for it. Topics also have
// subscribers.
export const audiences = {
  everyone: {
    type: "broadcast",
    messages: () => "/v1/broadcast",
    retained: () => "/v1/broadcast/retained",
    describe: () => "broadcasts",
  },
  user: {
    type: "individual",
    label: "User",
    field: "user_id",
    messages: (name) => `/v1/users/${part(name)}/messages`,
    retained: (name) => `/v1/users/${part(name)}/retained`,
    describe: (name) => `user ${name}`,
  },
  topic: {
    type: "topic",
    label: "Topic",
    field: "topic",
    messages: (name) => `/v1/topics/${part(name)}/messages`,
    retained: (name) => `/v1/topics/${part(name)}/retained`,
    subscribers: (name) => `/v1/topics/${part(name)}/subscribers`,
    describe: (name) => name,
  },
};
