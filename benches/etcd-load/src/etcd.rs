//! The part of etcd's version 3 API that a bench needs: `etcdserverpb.KV`, Put and Range, and
//! `etcdserverpb.Maintenance`, Status. Field numbers are those of etcd's rpc.proto; fields that
//! are not needed are left out, which Protocol Buffers allow.

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// PutRequest.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Put {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// PutResponse.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutDone {}

/// RangeRequest of one key; linearizable, since `serializable` is not set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Range {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
}

/// RangeResponse.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RangeDone {
    #[prost(message, repeated, tag = "2")]
    pub(crate) kvs: Vec<KeyValue>,
}

/// KeyValue of mvccpb.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) value: Vec<u8>,
}

/// One member, over one HTTP/2 connection that its clients share.
#[derive(Clone)]
pub(crate) struct Etcd(Grpc<Channel>);

impl Etcd {
    /// A member at a channel.
    pub(crate) fn new(channel: Channel) -> Etcd {
        Etcd(Grpc::new(channel))
    }

    /// Stores a value.
    pub(crate) async fn put(&mut self, put: Put) -> Result<PutDone, Status> {
        self.call("/etcdserverpb.KV/Put", put).await
    }

    /// Reads a key, linearizably.
    pub(crate) async fn range(&mut self, range: Range) -> Result<RangeDone, Status> {
        self.call("/etcdserverpb.KV/Range", range).await
    }

    async fn call<A, B>(&mut self, path: &'static str, message: A) -> Result<B, Status>
    where
        A: Message + Default + 'static,
        B: Message + Default + 'static,
    {
        let refused = |error| Status::unavailable(format!("{error}"));
        self.0.ready().await.map_err(refused)?;
        let codec = ProstCodec::<A, B>::default();
        let path = PathAndQuery::from_static(path);
        self.0.unary(Request::new(message), path, codec).await.map(|answer| answer.into_inner())
    }
}
